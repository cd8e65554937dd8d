// The examples: compressed blocks in the page, opened when they are looked at, and the columns to filter them by.

class Examples {
  constructor(index) {
    this.index = index;
    this.count = index.pairs.length;
    this.starts = index.sizes.reduce((starts, size) => [...starts, starts[starts.length - 1] + size], [0]);
    this.pairStarts = new Int32Array(this.count + 1);
    index.pairs.forEach((pairs, number) => { this.pairStarts[number + 1] = this.pairStarts[number] + pairs; });
    this.opened = new Map();
  }

  /** Example `number`. */
  async get(number) {
    let block = 0;
    for (let last = this.starts.length - 2; block < last;) {
      const middle = (block + last + 1) >> 1;
      if (this.starts[middle] <= number) block = middle;
      else last = middle - 1;
    }
    return (await this.block(block))[number - this.starts[block]];
  }

  block(number) {
    return this.open(`examples-${number}`);
  }

  /** The values of a check of all pairs, in order: null where there is none, flags as 0 and 1. */
  column(check) {
    return this.open(`checks-${check}`);
  }

  open(id) {
    if (!this.opened.has(id)) this.opened.set(id, inflated(byId(id)));
    return this.opened.get(id);
  }

  /** The numbers of the examples that `wanted` holds for, in order; null where `isStale` says that nobody waits. */
  async select(wanted, isStale) {
    const { source, rounds } = this.index;
    let found = [];
    for (let number = 0; number < this.count; number += 1) {
      if ((wanted.source === null || source[number] === wanted.source)
        && (wanted.round === null || rounds[number].includes(wanted.round))) found.push(number);
    }
    if (wanted.check !== null) {
      const values = await this.column(wanted.check);
      found = found.filter((number) => this.fits(values, number, wanted.fits));
    }
    if (wanted.text === '') return isStale() ? null : found;
    return this.search(found, pattern(wanted.text), isStale);
  }

  /** Whether some pair of an example has a value that fits. */
  fits(values, number, fits) {
    for (let pair = this.pairStarts[number]; pair < this.pairStarts[number + 1]; pair += 1) {
      const value = values[pair];
      if (value !== null && fits(value)) return true;
    }
    return false;
  }

  /** Of the examples `among`, in order, those that hold what `searched` matches. */
  async search(among, searched, isStale) {
    const found = [];
    let block = 0;
    let examples = null;
    let held = -1;
    for (const number of among) {
      while (number >= this.starts[block + 1]) block += 1;
      if (held !== block) {
        // Blocks are opened beside this thread: some more than the one that is waited for.
        for (let ahead = block; ahead < Math.min(block + 6, this.starts.length - 1); ahead += 1) this.block(ahead);
        examples = await this.block(block);
        held = block;
        if (isStale()) return null;
      }
      if (holds(examples[number - this.starts[block]], searched)) found.push(number);
    }
    return found;
  }
}

function holds(example, searched) {
  return searched.test(example.id) || example.shots.some((shot) => searched.test(shot.text) || searched.test(shot.document)
    || shot.pairs.some((pair) => searched.test(pair.instruction) || searched.test(pair.response)));
}

/** A text as a pattern that finds just it, whatever its case. */
function pattern(text, flags = 'iu') {
  return new RegExp(text.replace(/[\\^$.*+?()[\]{}|/]/gu, '\\$&').replace(/\s+/gu, '\\s+'), flags);
}

/** The JSON in a block: base64 of what zlib deflated. */
async function inflated(block) {
  const bytes = fromBase64(block.textContent);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate'));
  const value = await new Response(stream).json();
  block.remove();
  return value;
}

function fromBase64(text) {
  if (Uint8Array.fromBase64) return Uint8Array.fromBase64(text);
  const decoded = atob(text);
  const bytes = new Uint8Array(decoded.length);
  for (let place = 0; place < decoded.length; place += 1) bytes[place] = decoded.charCodeAt(place);
  return bytes;
}
