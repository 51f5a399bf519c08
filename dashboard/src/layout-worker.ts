// Lays graphs out beside the page, which stays responsive.

import { layOut, type LayoutInput } from "./model/graph.ts";
import { layered } from "./model/layered.ts";

type Message = { number: number; input: LayoutInput };

self.onmessage = ({ data }: MessageEvent<Message>) => {
  try {
    self.postMessage({ number: data.number, layout: layOut(data.input, layered) });
  } catch (error) {
    self.postMessage({ number: data.number, error: String(error) });
  }
};
