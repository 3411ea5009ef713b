import { Code } from '@mantine/core';

/** A sentence in which what stands between backticks is to be typed. */
export function Prose({ children }: { children: string }) {
    return children.split('`').map((piece, index) => (index % 2 ? <Code key={index}>{piece}</Code> : piece));
}
