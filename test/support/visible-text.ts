/** The text of a page as people read it: without its head and markup. */
export function visibleText(html: string): string {
  return html
    .replaceAll(/<head>.*<\/head>/gs, '')
    .replaceAll(/<\/?(?:a|code|em|strong|time)\b[^>]*>/g, '')
    .replaceAll(/<[^>]*>/g, ' ')
    .replaceAll(/\s+/g, ' ');
}
