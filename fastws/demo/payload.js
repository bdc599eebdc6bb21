// What the meter sends, and whether what came back is the same to the last byte. Every message begins with its number.

const LETTERS = [..."abcdefghijklmnopqrstuvwxyz ABCDEFGHIJKLMNOPQRSTUVWXYZ.0123456789"];
const EMOJI = [..."😀🚀🌍🎉🦊🍉🐙🌈⚡🔥🎈🦄🐝🍀🎸🧩"].filter((one) => one.length === 2); // four bytes each in UTF-8
const DIGITS = 8;

// Always the same numbers (xorshift), in no order that a displaced copy would fit.
function* scramble() {
  let x = 2463534242;
  for (;;) {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    yield x >>> 0;
  }
}

function text(characters, count) {
  const random = scramble();
  const tail = Array.from({ length: count }, () => characters[random.next().value % characters.length]).join("");
  const make = (number) => String(number % 10 ** DIGITS).padStart(DIGITS, "0") + tail;
  return { make, matches: (data, number) => data === make(number) };
}

function binary(size) {
  const random = scramble();
  const words = Uint32Array.from({ length: size / 4 }, () => random.next().value);
  return {
    make(number) {
      words[0] = number;
      return words; // send() copies it at once
    },
    matches(data, number) {
      if (!(data instanceof ArrayBuffer) || data.byteLength !== size) return false;
      const came = new Uint32Array(data);
      if (came[0] !== number >>> 0) return false;
      for (let i = 1; i < came.length; i++) if (came[i] !== words[i]) return false;
      return true;
    },
  };
}

// `size` in bytes as they go over the wire, a multiple of 4 and at least 12.
export function makePayload(kind, size) {
  if (kind === "binary") return binary(size);
  return kind === "emoji" ? text(EMOJI, (size - DIGITS) / 4) : text(LETTERS, size - DIGITS);
}
