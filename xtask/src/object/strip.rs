//! Takes DWARF out of an object: BTF has been made of it, and it is most of the file, which the agent embeds.

use anyhow::{Context, Result};
use object::build::elf::{Builder, Section, SectionData};
use object::elf::SHT_STRTAB;

/// The object without DWARF and its relocations.
pub(super) fn strip(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut builder = Builder::read(bytes).context("it is no ELF file")?;
    for section in &mut builder.sections {
        let name = section.name.as_slice();
        section.delete = name.starts_with(b".debug_") || name.starts_with(b".rel.debug_");
    }
    builder.delete_orphans();
    name_sections(&mut builder);
    let mut stripped = Vec::new();
    builder.write(&mut stripped).context("writing it without DWARF")?;
    Ok(stripped)
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

    #[test]
    fn dwarf_goes_and_all_else_stays() {
        let mut writer = Writer::new(BinaryFormat::Elf, Architecture::Bpf, Endianness::Little);
        let segment = writer.segment_name(StandardSegment::Data).to_vec();
        let add = |writer: &mut Writer<'_>, name: &str, kind| {
            let section = writer.add_section(segment.clone(), name.as_bytes().to_vec(), kind);
            writer.append_section_data(section, &[7; 64], 8);
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
        assert_eq!(btf.data().unwrap(), [7; 64]);
        assert_eq!(btf.relocations().count(), 1);
    }
}
