import QRCode from 'qrcode';

import { remember } from '../../remember.ts';

/** Codes kept in memory; one takes some KB as text. */
const KEPT = 1_000;

const codes = new Map<string, string>();

/**
 * Makes a QR code, which takes as long as the rest of a page, or finds the one made before.
 *
 * @param url what it says
 * @returns an SVG element: black on white with the quiet zone of the standard, 4 modules, in dark mode too, because
 *   cameras read it best
 */
export async function qrCode(url: string): Promise<string> {
  return codes.get(url) ?? remember(codes, url, await QRCode.toString(url, { type: 'svg', margin: 4 }), KEPT);
}
