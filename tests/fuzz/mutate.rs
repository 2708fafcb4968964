//! Changed inputs, from a seed.

/// What changes inputs, by splitmix64.
pub struct Mutator(u64);

/// Bytes at which programs tend to break.
const EDGES: [u8; 12] = [
    0, 1, 0x7f, 0x80, 0xff, b'/', b'*', b'[', 0xc1, 0xdd, 0xdf, 0xc6,
];

impl Mutator {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `count`, which is not 0.
    pub fn below(&mut self, count: usize) -> usize {
        (self.next() % count as u64) as usize
    }

    /// One of the inputs, changed in a few places.
    pub fn changed(&mut self, pool: &[Vec<u8>], bytes_max: usize) -> Vec<u8> {
        let mut input = pool[self.below(pool.len())].clone();
        for _ in 0..=self.below(6) {
            self.change(&mut input, pool);
        }
        input.truncate(bytes_max);
        input
    }

    fn change(&mut self, input: &mut Vec<u8>, pool: &[Vec<u8>]) {
        let at = self.below(input.len() + 1);
        let end = (at + 1 + self.below(16)).min(input.len());
        match self.below(8) {
            0 if at < input.len() => input[at] = self.next() as u8,
            1 if at < input.len() => input[at] ^= 1 << self.below(8),
            2 if at < input.len() => input[at] = EDGES[self.below(EDGES.len())],
            3 if at < end => drop(input.drain(at..end)),
            4 => {
                let piece = input[at..end.max(at)].to_vec();
                let to = self.below(input.len() + 1);
                drop(input.splice(to..to, piece));
            }
            5 => {
                let other = &pool[self.below(pool.len())];
                let from = self.below(other.len() + 1);
                let length = self.below(64).min(other.len() - from);
                drop(input.splice(at..at, other[from..from + length].iter().copied()));
            }
            6 => {
                let random: Vec<u8> = (0..=self.below(32)).map(|_| self.next() as u8).collect();
                drop(input.splice(at..at, random));
            }
            _ => input.push(self.next() as u8),
        }
    }
}

/// Names an input.
pub fn hash(input: &[u8]) -> u64 {
    let mix = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
    input.iter().fold(0xcbf2_9ce4_8422_2325, mix)
}
