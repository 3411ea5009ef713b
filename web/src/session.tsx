import { createContext, type ReactNode, useContext, useMemo, useState } from 'react';

import { Api, type Session } from './api';

interface SignedIn {
    api: Api;
    session: Session;
    /** What a person does. */
    signOut(): void;
    /** What a page does when the service no longer takes the session. */
    expired(): void;
}

/** What somebody sees who has not signed in. */
type Door = (enter: (session: Session) => void, hasExpired: boolean) => ReactNode;

const SessionContext = createContext<SignedIn | undefined>(undefined);
const STORED = 'selvage-session';

/** Shows `children` to who has signed in, and `door` to who has not. */
export function SessionProvider({ children, door }: { children: ReactNode; door: Door }) {
    const [session, setSession] = useState<Session | undefined>(stored);
    const [hasExpired, setHasExpired] = useState(false);
    const signedIn = useMemo<SignedIn | undefined>(() => {
        if (!session) {
            return undefined;
        }
        const api = new Api(session);
        const forget = (expired: boolean) => {
            sessionStorage.removeItem(STORED);
            setHasExpired(expired);
            setSession(undefined);
        };
        const signOut = () => {
            // Whatever the service says, this tab forgets the token.
            api.logout().catch(() => undefined);
            forget(false);
        };
        return { api, session, signOut, expired: () => forget(true) };
    }, [session]);
    const enter = (fresh: Session) => {
        sessionStorage.setItem(STORED, JSON.stringify(fresh));
        setSession(fresh);
    };
    if (!signedIn) {
        return door(enter, hasExpired);
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
