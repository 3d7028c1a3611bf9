import type { Writable } from 'node:stream';
import { styleText } from 'node:util';

/** The few colours and weights in use. */
export type Style = 'bold' | 'dim' | 'green' | 'yellow' | 'red';

/** Returns the text in a style; unchanged where there is no terminal, or NO_COLOR is set. */
export type Paint = (style: Style, text: string) => string;

export const PLAIN: Paint = (_style, text) => text;

/** Whether a person reads this stream. */
export function isTerminal(stream: Writable): boolean {
  return (stream as Partial<NodeJS.WriteStream>).isTTY === true;
}

export function painterOf(stream: Writable): Paint {
  return isTerminal(stream) ? (style, text) => styleText(style, text, { stream }) : PLAIN;
}

/** Escapes control characters except line breaks: some texts come from strangers, and a terminal would obey them. */
export function printable(text: string): string {
  return text.replaceAll(
    // oxlint-disable-next-line no-control-regex
    /[\u0000-\u0009\u000b-\u001f\u007f-\u009f]/g,
    (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`,
  );
}
