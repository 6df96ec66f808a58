//! Whether an object file is what the kernel and the loader need.

use anyhow::{Context, Result, bail, ensure};
use object::{Object, ObjectSection};

/// BTF is there, and the license is one that the kernel takes for GPL-only helpers.
pub(super) fn inspect(bytes: &[u8]) -> Result<()> {
    let file = object::File::parse(bytes).context("it is no ELF file")?;
    for section in [".BTF", ".BTF.ext"] {
        let size = file.section_by_name(section).map_or(0, |section| section.size());
        ensure!(
            size > 0,
            "it has no {section}: bpf-linker ran without --btf, or the profile has no debug information"
        );
    }
    let Some(license) = file.section_by_name("license") else {
        bail!("it has no section `license`: the kernel would refuse GPL-only helpers");
    };
    let text = license.data().context("reading the section `license`")?;
    ensure!(
        text == b"GPL\0",
        "its license is {:?}, and must be \"GPL\\0\"",
        String::from_utf8_lossy(text)
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use object::write::{Object as Writer, StandardSegment};
    use object::{Architecture, BinaryFormat, Endianness, SectionKind};

    use super::*;

    fn elf(sections: &[(&str, &[u8])]) -> Vec<u8> {
        let mut writer = Writer::new(BinaryFormat::Elf, Architecture::Bpf, Endianness::Little);
        for (name, data) in sections {
            let segment = writer.segment_name(StandardSegment::Data).to_vec();
            let section = writer.add_section(segment, name.as_bytes().to_vec(), SectionKind::Data);
            writer.append_section_data(section, data, 1);
        }
        writer.write().unwrap()
    }

    #[test]
    fn a_whole_object_is_taken() {
        inspect(&elf(&[(".BTF", b"x"), (".BTF.ext", b"x"), ("license", b"GPL\0")])).unwrap();
    }

    #[test]
    fn what_is_missing_is_named() {
        let whole: [(&str, &[u8]); 3] = [(".BTF", b"x"), (".BTF.ext", b"x"), ("license", b"GPL\0")];
        for (index, (name, _)) in whole.iter().enumerate() {
            let mut sections = whole.to_vec();
            sections.remove(index);
            let error = inspect(&elf(&sections)).unwrap_err().to_string();
            assert!(error.contains(name), "{name} is not named: {error}");
        }
    }

    #[test]
    fn another_license_is_refused() {
        let object = elf(&[(".BTF", b"x"), (".BTF.ext", b"x"), ("license", b"Dual MIT/GPL\0")]);
        assert!(inspect(&object).unwrap_err().to_string().contains("Dual MIT/GPL"));
    }

    #[test]
    fn no_elf_is_refused() {
        assert!(format!("{:#}", inspect(b"nonsense").unwrap_err()).contains("no ELF file"));
    }
}
