//! The stores that a compiler emits for a doorbell, decoded from x86-64 machine code: what is
//! stored, and how long the instruction is (Intel SDM volume 2, chapter 2 for the encoding).

/// What an instruction stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// A general register, by its number in the encoding (0 is rax, 8 is r8).
    General(u8),
    /// The same, and what was in memory goes into the register (`xchg`).
    Exchange(u8),
    /// A constant.
    Immediate(u64),
    /// The low 8 bytes of an SSE register.
    Low(u8),
    /// The high 8 bytes of an SSE register.
    High(u8),
    /// All 16 bytes of an SSE register.
    Whole(u8),
}

/// One store instruction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Store {
    pub(crate) source: Source,
    /// Bytes of the instruction.
    pub(crate) length: u8,
}

/// Longest instruction in bytes.
pub(crate) const LONGEST: usize = 15;

/// Decodes the instruction whose bytes `fetch` reads, one after the other. `None` for everything
/// that is not a store of 8 or 16 bytes in one of the forms that compilers emit.
pub(crate) fn decode(mut fetch: impl FnMut(usize) -> u8) -> Option<Store> {
    let mut code = Code {
        fetch: &mut fetch,
        at: 0,
    };
    let (mut operand_16, mut repeat) = (false, false);
    let mut rex = 0;
    let opcode = loop {
        if code.at == LONGEST {
            return None;
        }
        match code.byte() {
            0x66 => operand_16 = true,
            0xF3 => repeat = true,
            prefix @ 0x40..=0x4F => {
                rex = prefix;
                break code.byte();
            }
            opcode => break opcode,
        }
    };
    let wide = rex & 8 != 0;
    let register = |modrm: ModRm| modrm.register | (rex & 4) << 1;
    let source = match opcode {
        0x89 if wide && !operand_16 && !repeat => Source::General(register(code.modrm()?)),
        0x87 if wide && !operand_16 && !repeat => Source::Exchange(register(code.modrm()?)),
        0xC7 if wide && !operand_16 && !repeat => {
            let modrm = code.modrm()?;
            if modrm.register != 0 {
                return None;
            }
            let bytes = [code.byte(), code.byte(), code.byte(), code.byte()];
            Source::Immediate(i64::from(i32::from_le_bytes(bytes)) as u64)
        }
        0x0F => {
            let opcode = code.byte();
            let kind = sse(opcode, operand_16, repeat, wide)?;
            kind(register(code.modrm()?))
        }
        0xC5 | 0xC4 => code.vex(opcode)?,
        _ => return None,
    };
    Some(Store {
        source,
        length: code.at as u8,
    })
}

/// The two-byte opcodes, with `66` and `F3` prefixes and REX.W.
fn sse(opcode: u8, operand_16: bool, repeat: bool, wide: bool) -> Option<fn(u8) -> Source> {
    Some(match (opcode, operand_16, repeat) {
        // movups, movupd, movaps, movapd, movntps, movntpd, movdqa, movntdq, movdqu
        (0x11 | 0x29 | 0x2B, _, false) | (0x7F | 0xE7, true, false) | (0x7F, false, true) => {
            Source::Whole
        }
        // movlps, movlpd; movq xmm
        (0x13, _, false) | (0xD6, true, false) => Source::Low,
        // movhps, movhpd
        (0x17, _, false) => Source::High,
        // movq xmm with REX.W
        (0x7E, true, false) if wide => Source::Low,
        // movnti
        (0xC3, false, false) if wide => Source::General,
        _ => return None,
    })
}

#[derive(Debug, Clone, Copy)]
struct ModRm {
    register: u8,
}

struct Code<'f> {
    fetch: &'f mut dyn FnMut(usize) -> u8,
    at: usize,
}

impl Code<'_> {
    fn byte(&mut self) -> u8 {
        let byte = (self.fetch)(self.at);
        self.at += 1;
        byte
    }

    /// Reads ModR/M, SIB and displacement. `None` where the operand is a register: no store.
    fn modrm(&mut self) -> Option<ModRm> {
        let modrm = self.byte();
        let (mode, base) = (modrm >> 6, modrm & 7);
        if mode == 3 {
            return None;
        }
        let base = if base == 4 { self.byte() & 7 } else { base };
        let displacement = match mode {
            // Without a base, or relative to the instruction pointer.
            0 if base == 5 => 4,
            0 => 0,
            1 => 1,
            _ => 4,
        };
        for _ in 0..displacement {
            self.byte();
        }
        Some(ModRm {
            register: modrm >> 3 & 7,
        })
    }

    /// The same SSE stores in their VEX encodings of 128 bits.
    fn vex(&mut self, first: u8) -> Option<Source> {
        let second = self.byte();
        let (last, map, wide) = if first == 0xC5 {
            (second, 1, false)
        } else {
            let third = self.byte();
            (third, second & 0x1F, third & 0x80 != 0)
        };
        // Bits 6 to 3, inverted, name a second source, which no store has; bit 2 is 256 bits.
        if map != 1 || last & 0x78 != 0x78 || last & 4 != 0 {
            return None;
        }
        let (operand_16, repeat) = match last & 3 {
            0 => (false, false),
            1 => (true, false),
            2 => (false, true),
            _ => return None,
        };
        let opcode = self.byte();
        if opcode == 0xC3 {
            return None;
        }
        let kind = sse(opcode, operand_16, repeat, wide)?;
        let high = if second & 0x80 == 0 { 8 } else { 0 };
        Some(kind(self.modrm()?.register | high))
    }
}

#[cfg(test)]
mod tests;
