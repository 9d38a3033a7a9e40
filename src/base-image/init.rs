//! The first process of every container here: says which image it runs, then
//! becomes the program that it was given.

use std::env;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let image = env::var("IMAGE_NAME").unwrap_or_else(|_| "an image without a name".to_owned());
    eprintln!("init: this is {image}");
    let mut arguments = env::args_os().skip(1);
    let Some(program) = arguments.next() else {
        eprintln!("init: there is nothing to run: name a program after the image");
        return ExitCode::SUCCESS;
    };
    let error = Command::new(&program).args(arguments).exec();
    eprintln!("init: {} does not start: {error}", program.display());
    ExitCode::from(127)
}
