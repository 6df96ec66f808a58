//! Takes out of an object what is for readers of it alone: DWARF, of which BTF has been made and which is most of the file, and
//! BTF's numbers of source lines, of which the loader makes a copy for every function (36 MiB at the agent's start).

use anyhow::{Context, Result, ensure};
use object::build::elf::{Builder, Section, SectionData};
use object::elf::SHT_STRTAB;

/// Functions' types, by which the verifier knows which functions it may look at once for all their callers, and source lines.
const BTF_EXTENSION: &[u8] = b".BTF.ext";

/// The object without DWARF, source lines and what relocates them.
pub(super) fn strip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut builder = Builder::read(bytes).context("it is no ELF file")?;
    for section in &mut builder.sections {
        let name = section.name.as_slice();
        let is_dwarf = name.starts_with(b".debug_") || name.starts_with(b".rel.debug_");
        // No loader reads it: what is in the section counts from the beginning of the code as it is.
        section.delete = is_dwarf || name == b".rel.BTF.ext";
        if name == BTF_EXTENSION
            && let SectionData::Data(data) = &section.data
        {
            let without = without_lines(data).context("its section .BTF.ext is none")?;
            section.data = SectionData::Data(without.into());
        }
    }
    builder.delete_orphans();
    name_sections(&mut builder);
    let mut stripped = Vec::new();
    builder.write(&mut stripped).context("writing what is left")?;
    Ok(stripped)
}

/// `struct btf_ext_header` with its first part alone, the functions' types.
fn without_lines(data: &[u8]) -> Result<Vec<u8>> {
    const HEADER: usize = 4;
    const FUNCTIONS: usize = 8;
    const FUNCTIONS_LENGTH: usize = 12;
    const LINES: usize = 16;
    const LINES_LENGTH: usize = 20;
    const RELOCATIONS: usize = 24;
    const RELOCATIONS_LENGTH: usize = 28;
    let word = |at: usize| -> Result<usize> {
        let bytes = data.get(at..at + 4).context("it is cut short")?;
        Ok(u32::from_le_bytes(bytes.try_into()?) as usize)
    };
    let header = word(HEADER)?;
    ensure!(
        header < RELOCATIONS_LENGTH + 4 || word(RELOCATIONS_LENGTH)? == 0,
        "it has relocations against the kernel's types, which would be lost"
    );
    let (start, length) = (word(FUNCTIONS)?, word(FUNCTIONS_LENGTH)?);
    ensure!(start == 0, "the functions' types do not come first");
    let mut kept = data.get(..header + length).context("it is cut short")?.to_vec();
    // What is empty lies where the functions' types end.
    let empty = [(LINES, length), (LINES_LENGTH, 0), (RELOCATIONS, length)];
    for (at, value) in empty.into_iter().filter(|(at, _)| *at < header) {
        kept.get_mut(at..at + 4)
            .context("it is cut short")?
            .copy_from_slice(&u32::try_from(value)?.to_le_bytes());
    }
    Ok(kept)
}

/// LLVM writes the names of symbols and of sections into one table; here each has its own.
fn name_sections(builder: &mut Builder<'_>) {
    let has_names = |section: &Section<'_>| matches!(section.data, SectionData::SectionString);
    if builder.sections.iter().any(has_names) {
        return;
    }
    let names = builder.sections.add();
    names.name = b".shstrtab".as_slice().into();
    names.sh_type = SHT_STRTAB;
    names.sh_addralign = 1;
    names.data = SectionData::SectionString;
}

#[cfg(test)]
mod tests {
    use object::write::{Object as Writer, Relocation, StandardSegment};
    use object::{
        Architecture, BinaryFormat, Endianness, Object, ObjectSection, RelocationFlags, SectionKind,
    };

    use super::*;

    /// Header of 32 bytes, 8 bytes of functions, 16 of lines, and so many of relocations.
    fn extension(relocations: u32) -> Vec<u8> {
        let words = [0x0001_eb9f, 32, 0, 8, 8, 16, 24, relocations];
        let header: Vec<u8> = words.iter().flat_map(|word: &u32| word.to_le_bytes()).collect();
        [header, vec![1; 8], vec![2; 16], vec![3; relocations as usize]].concat()
    }

    #[test]
    fn lines_go_and_functions_stay() {
        let kept = without_lines(&extension(0)).unwrap();
        let (header, rest) = kept.split_at(32);
        assert_eq!(rest, [1; 8]);
        assert_eq!(header[16..28], [8, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0]);
        assert_eq!(header[..16], extension(0)[..16]);
        for (bytes, expected) in [(extension(4), "relocations"), (vec![0; 7], "cut short")] {
            let error = without_lines(&bytes).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn dwarf_goes_and_all_else_stays() {
        let mut writer = Writer::new(BinaryFormat::Elf, Architecture::Bpf, Endianness::Little);
        let segment = writer.segment_name(StandardSegment::Data).to_vec();
        let add = |writer: &mut Writer<'_>, name: &str, kind| {
            let section = writer.add_section(segment.clone(), name.as_bytes().to_vec(), kind);
            let data = if name == ".BTF.ext" {
                extension(0)
            } else {
                vec![7; 64]
            };
            writer.append_section_data(section, &data, 8);
            (section, writer.section_symbol(section))
        };
        let (_, text) = add(&mut writer, "classifier", SectionKind::Text);
        let (debug, _) = add(&mut writer, ".debug_info", SectionKind::Debug);
        let (btf, _) = add(&mut writer, ".BTF.ext", SectionKind::Metadata);
        for section in [debug, btf] {
            let relocation = Relocation {
                offset: 8,
                symbol: text,
                addend: 0,
                flags: RelocationFlags::Elf { r_type: 3 },
            };
            writer.add_relocation(section, relocation).unwrap();
        }
        let stripped = strip(&writer.write().unwrap()).unwrap();
        let file = object::File::parse(stripped.as_slice()).unwrap();
        let names: Vec<_> = file
            .sections()
            .filter_map(|section| section.name().ok())
            .collect();
        assert!(!names.iter().any(|name| name.contains("debug")), "{names:?}");
        for kept in ["classifier", ".BTF.ext", ".symtab"] {
            assert!(names.contains(&kept), "{kept} is not in {names:?}");
        }
        let btf = file.section_by_name(".BTF.ext").unwrap();
        assert_eq!(btf.data().unwrap(), without_lines(&extension(0)).unwrap());
        assert_eq!(btf.relocations().count(), 0);
        let text = file.section_by_name("classifier").unwrap();
        assert_eq!(text.data().unwrap(), [7; 64]);
    }
}
