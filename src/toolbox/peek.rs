//! Prints files, or lists folders: `cat` and `ls` for images that have neither.

use std::path::Path;
use std::{env, fs, io};

fn main() -> io::Result<()> {
    for argument in env::args_os().skip(1) {
        let path = Path::new(&argument);
        if path.is_dir() {
            for entry in fs::read_dir(path)? {
                println!("{}", entry?.path().display());
            }
        } else {
            io::copy(&mut fs::File::open(path)?, &mut io::stdout())?;
        }
    }
    Ok(())
}
