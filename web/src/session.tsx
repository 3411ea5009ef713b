import { createContext, type ReactNode, useContext, useMemo, useState } from 'react';

import { Api, type Session } from './api';

interface SignedIn {
    api: Api;
    session: Session;
    signOut(): void;
}

const SessionContext = createContext<SignedIn | undefined>(undefined);
const STORED = 'selvage-session';

/** Shows `children` to who has signed in, and `door` to who has not. */
export function SessionProvider({ children, door }: { children: ReactNode; door: (enter: (s: Session) => void) => ReactNode }) {
    const [session, setSession] = useState<Session | undefined>(stored);
    const signedIn = useMemo<SignedIn | undefined>(() => {
        if (!session) {
            return undefined;
        }
        const signOut = () => {
            sessionStorage.removeItem(STORED);
            setSession(undefined);
        };
        return { api: new Api(session), session, signOut };
    }, [session]);
    const enter = (fresh: Session) => {
        sessionStorage.setItem(STORED, JSON.stringify(fresh));
        setSession(fresh);
    };
    if (!signedIn) {
        return door(enter);
    }
    return <SessionContext value={signedIn}>{children}</SessionContext>;
}

export function useSession(): SignedIn {
    const session = useContext(SessionContext);
    if (!session) {
        throw new Error('useSession needs a SessionProvider above it');
    }
    return session;
}

/** A session lives as long as the browser tab, and never longer than the manager allows. */
function stored(): Session | undefined {
    const text = sessionStorage.getItem(STORED);
    if (!text) {
        return undefined;
    }
    const session = JSON.parse(text) as Session;
    return session.expire_time > Date.now() ? session : undefined;
}
