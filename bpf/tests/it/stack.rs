//! How much stack the programs take with all that they call: kernels before 6.13 add up the frames of whatever calls
//! each other, each rounded up, and refuse more than 512 bytes. A newer one, as this machine may have, takes more, so
//! loading the programs here says nothing of it.

use std::collections::BTreeMap;

use object::{Object, ObjectSection, ObjectSymbol, RelocationTarget, SectionIndex, SymbolKind};

/// `MAX_BPF_STACK`, `MAX_CALL_FRAMES`, and what a frame is rounded up to.
const STACK_BYTES_MAX: u64 = 512;
const FRAMES_MAX: usize = 8;
const ROUNDED_TO_BYTES: u64 = 32;

const FRAME_POINTER: u8 = 10;
const PSEUDO_CALL: u8 = 1;

/// Where a function begins.
type Place = (usize, u64);

#[derive(Default)]
struct Function {
    name: String,
    frame_bytes: u64,
    calls: Vec<Place>,
}

/// Of eight bytes.
struct Instruction {
    code: u8,
    to: u8,
    from: u8,
    offset: i16,
    number: i32,
}

impl Instruction {
    fn of(bytes: &[u8]) -> Instruction {
        Instruction {
            code: bytes[0],
            to: bytes[1] & 15,
            from: bytes[1] >> 4,
            offset: i16::from_le_bytes([bytes[2], bytes[3]]),
            number: i32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        }
    }

    /// How far below the frame pointer memory is read or written.
    fn below(&self) -> u64 {
        let base = match self.code & 7 {
            1 => self.from,
            2 | 3 => self.to,
            _ => return 0,
        };
        if base == FRAME_POINTER { u64::from(self.offset.min(0).unsigned_abs()) } else { 0 }
    }

    fn is_call(&self) -> bool {
        self.code == 0x85 && self.from == PSEUDO_CALL
    }

    /// The first half of one that loads 64 bits.
    fn is_wide(&self) -> bool {
        self.code == 0x18
    }

    /// A register that it writes.
    fn writes(&self) -> Option<u8> {
        matches!(self.code & 7, 0 | 1 | 4 | 7).then_some(self.to)
    }
}

/// Functions of an object by where they begin.
fn functions(object: &[u8]) -> BTreeMap<Place, Function> {
    let file = object::File::parse(object).expect("an object");
    let mut functions = BTreeMap::new();
    for symbol in file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text) {
        let Some(section) = symbol.section_index() else { continue };
        let data = file.section_by_index(section).expect("its section").data().expect("its bytes");
        let (from, bytes) = (symbol.address() as usize, symbol.size() as usize);
        if bytes == 0 {
            continue;
        }
        let relocated = relocations(&file, section);
        let mut function =
            Function { name: symbol.name().expect("a name").to_string(), ..Function::default() };
        let mut is_stack = [false; 16];
        for at in (from..from + bytes).step_by(8) {
            let instruction = Instruction::of(&data[at..at + 8]);
            read(&mut function, &instruction, &mut is_stack);
            let target = relocated.get(&(at as u64));
            function.calls.extend(called(&instruction, (section.0, at as u64), target));
        }
        functions.insert((section.0, from as u64), function);
    }
    functions
}

/// What a relocation at an instruction names, and whether that is a section.
fn relocations(file: &object::File<'_>, of: SectionIndex) -> BTreeMap<u64, (Place, bool)> {
    let section = file.section_by_index(of).expect("a section");
    let named = section.relocations().filter_map(|(at, relocation)| {
        let RelocationTarget::Symbol(symbol) = relocation.target() else { return None };
        let symbol = file.symbol_by_index(symbol).ok()?;
        let is_section = symbol.kind() == SymbolKind::Section;
        Some((at, ((symbol.section_index()?.0, symbol.address()), is_section)))
    });
    named.collect()
}

fn read(function: &mut Function, instruction: &Instruction, is_stack: &mut [bool; 16]) {
    let add_number = instruction.code == 0x07;
    let mut below = instruction.below();
    if add_number && is_stack[usize::from(instruction.to)] {
        below = below.max(u64::from(instruction.number.min(0).unsigned_abs()));
    }
    function.frame_bytes = function.frame_bytes.max(below);
    let copies = instruction.code == 0xbf;
    if let Some(to) = instruction.writes().filter(|_| !add_number) {
        is_stack[usize::from(to)] = copies && instruction.from == FRAME_POINTER;
    }
}

/// The function that an instruction calls, or hands to the kernel to be called.
fn called(
    instruction: &Instruction,
    (section, at): Place,
    relocated: Option<&(Place, bool)>,
) -> Option<Place> {
    let number = i64::from(instruction.number);
    let ahead = |from: u64, bytes: i64| from.checked_add_signed(bytes).expect("within a section");
    match (relocated, instruction.is_call()) {
        (Some(((section, from), _)), true) => Some((*section, ahead(*from, (number + 1) * 8))),
        (None, true) => Some((section, ahead(at, (number + 1) * 8))),
        // A map, unless a function is there.
        (Some(((section, from), is_section)), false) if instruction.is_wide() => {
            Some((*section, if *is_section { ahead(*from, number) } else { *from }))
        }
        _ => None,
    }
}

/// The frames that take most, from a function on.
fn largest(
    functions: &BTreeMap<Place, Function>,
    place: &Place,
    depth: usize,
) -> (u64, Vec<String>) {
    let function = &functions[place];
    assert!(depth < FRAMES_MAX, "{} is called too deep, or by itself", function.name);
    let calls = function.calls.iter().filter(|place| functions.contains_key(place));
    let below = calls.map(|place| largest(functions, place, depth + 1)).max().unwrap_or_default();
    let own = function.frame_bytes.max(1).next_multiple_of(ROUNDED_TO_BYTES);
    let mut frames = vec![format!("{} {}", function.name, function.frame_bytes)];
    frames.extend(below.1);
    (own + below.0, frames)
}

/// No program takes more stack with what it calls than any kernel gives. Catches a frame that grows until Debian's
/// kernels refuse a program that this machine's takes.
#[test]
fn old_kernels_have_the_stack() {
    for (name, object) in super::objects() {
        let functions = functions(object);
        let all = functions.keys().map(|place| largest(&functions, place, 0));
        let (bytes, frames) = all.max().expect("a function");
        assert!(bytes <= STACK_BYTES_MAX, "{name}: {bytes} bytes by {frames:?}");
        // Calls are found: each of these enters sockets by a function of its own.
        assert!(name == "process" || frames.len() > 1, "{name}: {frames:?}");
    }
}
