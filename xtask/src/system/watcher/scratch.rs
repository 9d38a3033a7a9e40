//! Files that editors write beside the ones that are edited: backups, swap files, locks and
//! probes. They come and go with every save, and are not what was saved.

use std::path::Path;

/// Whether a file's name is one that only editors give.
pub(crate) fn is_scratch(path: &Path) -> bool {
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else { return false };
    // Vim's probe whether it can write into a folder, and the others by their ends.
    name == "4913"
        || is_vim_swap(name)
        || name.len() > 1 && name.ends_with('~')
        || name.starts_with(".#")
        || name.len() > 2 && name.starts_with('#') && name.ends_with('#')
        || name.ends_with("___jb_tmp___")
        || name.ends_with("___jb_old___")
        || name.starts_with(".goutputstream-")
        || name.starts_with(".~lock.")
}

/// `.name.swp`, and `.swo`, `.swn` and so on where that exists already.
fn is_vim_swap(name: &str) -> bool {
    let Some((stem, end)) = name.rsplit_once('.') else { return false };
    let is_end = end.len() == 3
        && end.starts_with("sw")
        && end.bytes().all(|byte| byte.is_ascii_lowercase());
    is_end && (stem.is_empty() || stem.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn editors_files_are_told_from_others() {
        let scratch = [
            "src/web/.main.py.swp",
            ".main.py.swo",
            ".swp",
            "4913",
            "#main.py#",
            ".#main.py",
            "main.py~",
            "main.py___jb_tmp___",
            "main.py___jb_old___",
            ".goutputstream-X1Y2Z3",
            ".~lock.notes.odt#",
        ];
        for path in scratch {
            assert!(is_scratch(Path::new(path)), "{path}");
        }
        let sources = [
            "main.py",
            "main.swp",
            ".swift",
            ".config.swx.txt",
            "~",
            "49130",
            "4913.txt",
            "#",
            "##",
            "#notes",
            "a#b#",
            ".env",
            ".a.SWP",
            "jb_tmp",
        ];
        for path in sources {
            assert!(!is_scratch(Path::new(path)), "{path}");
        }
    }
}
