import type { ReactNode } from 'react';

/** What is known of one thing: a name and a value a line. */
export function Facts({ of }: { of: [string, ReactNode][] }) {
    return (
        <dl className="facts">
            {of.map(([name, value]) => (
                <div key={name}>
                    <dt>{name}</dt>
                    <dd>{value}</dd>
                </div>
            ))}
        </dl>
    );
}
