import { createContext, type ReactNode, useContext, useEffect, useMemo, useState } from 'react';

import { english, type Sentence } from './words/en';
import { chinese } from './words/zh';

export type Language = 'zh' | 'en';

export interface Words {
    language: Language;
    choose(language: Language): void;
    /** The sentence in the chosen language, its `{name}` places filled in. */
    t(sentence: Sentence, places?: Record<string, string | number>): string;
    /** A moment as the reader's region writes it. */
    time(moment: string | number | undefined): string;
}

const LanguageContext = createContext<Words | undefined>(undefined);
const STORED = 'selvage-language';

export function LanguageProvider({ children }: { children: ReactNode }) {
    const [language, choose] = useState<Language>(initial);
    useEffect(() => {
        localStorage.setItem(STORED, language);
        document.documentElement.lang = language === 'zh' ? 'zh-CN' : 'en';
    }, [language]);
    const words = useMemo<Words>(() => {
        const sentences = language === 'zh' ? chinese : english;
        const format = new Intl.DateTimeFormat(language === 'zh' ? 'zh-CN' : 'en-GB', {
            dateStyle: 'medium',
            timeStyle: 'medium',
        });
        return {
            language,
            choose,
            t: (sentence, places) => fill(sentences[sentence], places),
            time: (moment) => (moment === undefined || moment === '' ? '–' : format.format(new Date(moment))),
        };
    }, [language]);
    return <LanguageContext value={words}>{children}</LanguageContext>;
}

export function useWords(): Words {
    const words = useContext(LanguageContext);
    if (!words) {
        throw new Error('useWords needs a LanguageProvider above it');
    }
    return words;
}

function fill(sentence: string, places: Record<string, string | number> = {}): string {
    return sentence.replace(/\{(\w+)\}/g, (whole, name: string) => String(places[name] ?? whole));
}

function initial(): Language {
    const stored = localStorage.getItem(STORED);
    if (stored === 'zh' || stored === 'en') {
        return stored;
    }
    return navigator.language.toLowerCase().startsWith('zh') ? 'zh' : 'en';
}
