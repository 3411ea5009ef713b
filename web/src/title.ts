import { useEffect } from 'react';

/** Names the page in the browser's tab and history, the most particular first. */
export function useTitle(...parts: (string | undefined)[]): void {
    const title = [...parts, 'Selvage'].filter(Boolean).join(' · ');
    useEffect(() => {
        document.title = title;
    }, [title]);
}
