//! Serves the files of one folder over HTTP, to whoever asks on port 8080.
//!
//!     serve FOLDER            serve it
//!     serve --check FOLDER    say what would be served, and end

use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Component, Path, PathBuf};

fn main() -> io::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--check", folder] => check(Path::new(folder)),
        [folder] => serve(Path::new(folder)),
        _ => Err(io::Error::other("usage: serve [--check] FOLDER")),
    }
}

fn check(folder: &Path) -> io::Result<()> {
    for file in fs::read_dir(folder)? {
        println!("would serve {}", file?.path().display());
    }
    Ok(())
}

fn serve(folder: &Path) -> io::Result<()> {
    let listener = TcpListener::bind("0.0.0.0:8080")?;
    println!("serving {} on port 8080", folder.display());
    for connection in listener.incoming() {
        if let Err(error) = connection.and_then(|connection| answer(folder, connection)) {
            eprintln!("a request failed: {error}");
        }
    }
    Ok(())
}

fn answer(folder: &Path, mut connection: TcpStream) -> io::Result<()> {
    let mut request = String::new();
    BufReader::new(&connection).read_line(&mut request)?;
    let path = request.split(' ').nth(1).unwrap_or("/");
    let (status, body) = match fs::read(file_of(folder, path)) {
        Ok(body) => ("200 OK", body),
        Err(_) => ("404 Not Found", b"there is no such page\n".to_vec()),
    };
    let length = body.len();
    write!(connection, "HTTP/1.0 {status}\r\nContent-Length: {length}\r\n\r\n")?;
    connection.write_all(&body)
}

/// Never outside the folder, whatever the path says.
fn file_of(folder: &Path, path: &str) -> PathBuf {
    let names = Path::new(path).components();
    let below = names.filter(|part| matches!(part, Component::Normal(_)));
    match below.collect::<PathBuf>() {
        root if root.as_os_str().is_empty() => folder.join("index.html"),
        page => folder.join(page),
    }
}
