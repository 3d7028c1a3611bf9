import QRCode from 'qrcode';

import { remember } from '../../remember.ts';

/** Codes cached in memory; one takes a few KB as text. */
const KEPT = 1_000;

const codes = new Map<string, string>();

/**
 * Returns the QR code of a URL as an SVG element. It is cached because making one takes as long as the rest
 * of the page. It stays black on white in dark mode, with the standard quiet zone of 4 modules, because
 * cameras read that best.
 */
export async function qrCode(url: string): Promise<string> {
  return codes.get(url) ?? remember(codes, url, await QRCode.toString(url, { type: 'svg', margin: 4 }), KEPT);
}
