// The feature explorer's answers in an exported page: they come from the archive in it.

const MISSING = {
  trace: "This part of the text is not stored in this page.",
  card: "This feature is not stored in this page.",
  search: "Searching the text needs the notebook; labels and numbers can be searched here.",
  token: "All features of one token need the notebook.",
};

/** The numbers of a stored buffer as the kernel would have sent them: int16 → int32, float16 shares of the largest → float32. */
function widened(view, type, largest) {
  const size = view.byteLength / 2, result = type === "int" ? new Int32Array(size) : new Float32Array(size);
  for (let i = 0; i < size; i += 1) {
    if (type === "int") result[i] = view.getInt16(2 * i, true);
    else {
      const bits = view.getUint16(2 * i, true), exponent = (bits >> 10) & 31, fraction = bits & 1023;
      result[i] = largest * (exponent ? (1 + fraction / 1024) * 2 ** (exponent - 15) : fraction * 2 ** -24); // never negative
    }
  }
  return result;
}

/** What an explorer is given, of an archive's text. */
export async function archived(text) {
  const bytes = Uint8Array.from(atob(text.trim()), (letter) => letter.charCodeAt(0));
  const plain = new Uint8Array(await new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer());
  const size = new DataView(plain.buffer).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(plain.subarray(4, 4 + size)));
  const cut = (offset, length) => new DataView(plain.buffer, 4 + size + offset, length);
  const values = { feature: 0, selected: [], _about: head.about, _table: cut(0, head.table), _place: {} }, listeners = {};
  values.feature = new Float32Array(plain.buffer.slice(4 + size, 8 + size))[0] || 0;
  const part = (start) => Math.floor((start || 0) / head.about.part) * head.about.part;
  const backend = {
    stored: true,
    close() {},
    async ask(kind, question) {
      const stored = head.answers[kind === "trace" ? `trace:${question.piece}:${part(question.start)}` : `${kind}:${question.feature}`];
      if (!stored) throw new Error(MISSING[kind] || "This needs the notebook.");
      return { ...stored.reply, buffers: stored.spans.map(([offset, length, type, largest]) => widened(cut(offset, length), type, largest)) };
    },
  };
  const traits = {
    get: (name) => values[name],
    set(name, value) { values[name] = value; (listeners[name] || []).forEach((listener) => listener()); },
    on(name, listener) { (listeners[name] ||= []).push(listener); return () => {}; },
  };
  return { traits, backend };
}
