//! Secrets and SSH agents that `RUN --mount` can use, as `docker build` spells them.

use std::path::PathBuf;

/// A secret, of which only the id is ever written anywhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secret {
    /// What `RUN --mount=type=secret,id=` calls it.
    pub id: String,
    /// Where its value is.
    pub source: SecretSource,
}

/// Where the value of a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// In a file; a relative path starts at the root of the workspace.
    File(PathBuf),
    /// In a variable of the environment.
    Variable(String),
    /// In the variable of this name, if it is set, or else in the file.
    Either(String),
}

/// An SSH agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Agent {
    /// What `RUN --mount=type=ssh,id=` calls it.
    pub id: String,
    /// Its socket; `None` for the one of `SSH_AUTH_SOCK`.
    pub socket: Option<PathBuf>,
}

impl Secret {
    /// Parses `id=NAME[,src=FILE|,env=VARIABLE]`.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (mut id, mut file, mut variable, mut kind) = (None, None, None, None);
        for field in text.split(',') {
            let (key, value) = field.split_once('=').ok_or_else(expected)?;
            match key.trim() {
                "id" => id = Some(value.to_owned()),
                "src" | "source" => file = Some(value.to_owned()),
                "env" => variable = Some(value.to_owned()),
                "type" if matches!(value, "file" | "env") => kind = Some(value),
                "type" => return Err(format!("has the type '{value}': there are file and env")),
                other => return Err(format!("has the unknown field '{other}'; {}", expected())),
            }
        }
        let id = id.filter(|id| !id.is_empty()).ok_or_else(expected)?;
        let source = match (file, variable) {
            (Some(_), Some(_)) => return Err("has both 'src' and 'env': leave out one".to_owned()),
            (Some(name), None) if kind == Some("env") => SecretSource::Variable(name),
            (Some(file), None) => SecretSource::File(file.into()),
            (None, Some(variable)) => SecretSource::Variable(variable),
            (None, None) if kind == Some("env") => SecretSource::Variable(id.clone()),
            (None, None) => SecretSource::Either(id.clone()),
        };
        Ok(Self { id, source })
    }
}

fn expected() -> String {
    "expected id=NAME, and src=FILE or env=VARIABLE".to_owned()
}

impl Agent {
    /// Parses `ID[=SOCKET]`.
    ///
    /// # Errors
    /// What is wrong with it, as the end of a sentence.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (id, socket) = match text.split_once('=') {
            Some((id, socket)) => (id, Some(PathBuf::from(socket))),
            None => (text, None),
        };
        if id.is_empty() || socket.as_ref().is_some_and(|socket| socket.as_os_str().is_empty()) {
            return Err("expected 'default', or ID=SOCKET".to_owned());
        }
        Ok(Self { id: id.to_owned(), socket })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_as_docker_spells_them() {
        let file = |path: &str| SecretSource::File(path.into());
        let variable = |name: &str| SecretSource::Variable(name.to_owned());
        let cases = [
            ("id=a", Ok(SecretSource::Either("a".to_owned()))),
            ("id=a,src=f", Ok(file("f"))),
            ("id=a,source=f,type=file", Ok(file("f"))),
            ("type=env,id=a", Ok(variable("a"))),
            ("id=a,env=B", Ok(variable("B"))),
            ("id=a,type=env,src=B", Ok(variable("B"))),
            ("a", Err("expected id=NAME, and src=FILE or env=VARIABLE")),
            ("src=f", Err("expected id=NAME, and src=FILE or env=VARIABLE")),
            ("id=a,src=f,env=B", Err("has both 'src' and 'env': leave out one")),
            ("id=a,type=x", Err("has the type 'x': there are file and env")),
        ];
        for (text, expected) in cases {
            let found = Secret::parse(text).map(|secret| secret.source);
            assert_eq!(found, expected.map_err(str::to_owned), "{text}");
        }
    }
}
