use super::*;

/// What a Dockerfile reads of a context with these paths; `all` for everything.
fn read_with(text: &str, args: &[(&str, &str)]) -> String {
    const PATHS: [&str; 12] =
        ["a", "a/x", "a/deep/y", "ab", "b.txt", "c.txt", "d", "d/b.txt", "d e", "a1", "a2", "az"];
    let args = args.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let dockerfile = crate::dockerfile::parser::parse(text.as_bytes(), &args).unwrap();
    if dockerfile.sources == ContextReads::All {
        return "all".to_owned();
    }
    let is_read = |path: &&&str| dockerfile.sources.reach(Path::new(path)) == Reach::Read;
    PATHS.iter().filter(is_read).copied().collect::<Vec<_>>().join(", ")
}

fn read(instructions: &str) -> String {
    read_with(&format!("FROM scratch\n{instructions}\n"), &[])
}

#[test]
fn what_instructions_read() {
    let cases = [
        ("", ""),
        ("COPY a /", "a, a/x, a/deep/y"),
        ("COPY a/ /", "a, a/x, a/deep/y"),
        ("COPY ./a//deep/. /", "a/deep/y"),
        ("COPY /a /", "a, a/x, a/deep/y"),
        ("COPY ../../ab /", "ab"),
        ("copy ab \\\n# no\n  d /x/", "ab, d, d/b.txt"),
        ("COPY *.txt /", "b.txt, c.txt"),
        ("COPY */b.txt /", "d/b.txt"),
        ("COPY a? /", "ab, a1, a2, az"),
        ("COPY a[0-9] /", "a1, a2"),
        ("COPY a[^0-9] /", "ab, az"),
        ("COPY [\"d e\", \"/x\"]", "d e"),
        ("COPY --chown=1:2 --chmod=700 --link ab /", "ab"),
        ("COPY --from=alpine a /", ""),
        ("COPY --from=0 . /", ""),
        ("ADD https://a.b/$x/y b.txt /", "b.txt"),
        ("ADD c.txt /", "c.txt"),
        ("COPY <<EOF /x\ntext . /\nEOF", ""),
        ("COPY <<EOF ab /x\ntext\nEOF\nCOPY d /", "ab, d, d/b.txt"),
        ("RUN <<EOF\ntouch /x\nEOF", ""),
        ("RUN --mount=type=bind,source=d,target=/d ls", "d, d/b.txt"),
        ("RUN --mount=target=/d,src=/ab ls", "ab"),
        ("RUN --mount=type=bind,from=x,target=/x ls", ""),
        ("RUN --mount=type=cache,target=/x --network=none ls", ""),
        ("ENV X=a1\nCOPY $X ${X} /", "a1"),
        ("ENV X=1 Y=\"2\"\nCOPY a$X a${Y} /", "a1, a2"),
        ("ONBUILD COPY . /", ""),
        ("LABEL x=<<y\nCMD COPY . /", ""),
    ];
    for (instructions, expected) in cases {
        assert_eq!(read(instructions), expected, "{instructions}");
    }
}

#[test]
fn what_is_not_certain_is_everything() {
    let cases = [
        "COPY . /",
        "COPY ./ /",
        "COPY / /",
        "COPY .. /",
        "COPY a/.. /",
        "COPY a/../b.txt /",
        "COPY $X /",
        "COPY ${X:-a} /",
        "ARG X\nCOPY $X /",
        "ARG TARGETARCH=a\nCOPY $TARGETARCH /",
        "ARG http_proxy=a\nCOPY $http_proxy /",
        "ARG X=a\nARG X=b\nCOPY $X /",
        "ARG X=a\nENV X=b\nCOPY $X /",
        "ENV X=b\nARG X=a\nCOPY $X /",
        "ENV X a\nCOPY $X /",
        "ENV X='a'\nCOPY $X /",
        "ENV X=a\\ b\nCOPY a /",
        "COPY a\\b /",
        "COPY \"a\" /",
        "COPY a[ /",
        "COPY **/b.txt /",
        "COPY --new a /",
        "COPY --from=$X a /",
        "COPY --from= a /",
        "ADD --from=x a /",
        "RUN --mount=target=/x ls",
        "RUN --mount=type=bind,source=/,target=/x ls",
        "RUN --mount=type=bind,source=$X,target=/x ls",
        "RUN --mount=type=new,source=a,target=/x ls",
        "RUN --new ls",
        "RUN cat <<EOF > /x && cat <<END\na\nEOF\n",
        "RUN <<EOF\nCOPY . /\nEOF",
        "RUN <<EOF\nrun x\nEOF",
        "# syntax = docker/dockerfile:1\nCOPY a /",
        "# escape=`\nCOPY a /",
    ];
    for instructions in cases {
        let text = format!("FROM scratch\n{instructions}\n");
        let args = BTreeMap::new();
        // What is no Dockerfile is not built.
        if let Ok(dockerfile) = crate::dockerfile::parser::parse(text.as_bytes(), &args) {
            assert_eq!(dockerfile.sources, ContextReads::All, "{instructions}");
        }
    }
    assert_eq!(read_with("FROM scratch AS x\nONBUILD COPY a /\nFROM x\n", &[]), "all");
    assert_eq!(read_with("FROM scratch\nCOPY a /\n", &[("BUILDKIT_SYNTAX", "x")]), "all");
}

#[test]
fn variables_come_from_arguments_and_stages() {
    let cases = [
        ("FROM scratch\nARG X=1\nCOPY a$X /\n", "a1"),
        ("ARG X=1\nFROM scratch\nARG X\nCOPY a$X /\n", "a1"),
        ("ARG X=1\nFROM scratch\nARG X=2\nCOPY a$X /\n", "a2"),
        ("ARG X=1\nFROM scratch\nCOPY a$X /\n", "all"),
        ("FROM scratch AS s\nENV X=1\nFROM s\nCOPY a$X /\n", "a1"),
        ("FROM scratch AS s\nENV X=1\nFROM scratch\nCOPY a$X /\n", "all"),
        ("FROM scratch AS s\nARG X=1\nFROM s\nCOPY a$X /\n", "all"),
        ("ARG B=scratch\nFROM $B\nARG X=1\nCOPY a$X /\n", "all"),
        ("FROM scratch AS s\nCOPY a1 /\nFROM scratch\nCOPY a2 /\n", "a1, a2"),
    ];
    for (text, expected) in cases {
        assert_eq!(read_with(text, &[]), expected, "{text}");
    }
    assert_eq!(read_with("FROM scratch\nARG X=1\nCOPY a$X /\n", &[("X", "2")]), "a2");
    assert_eq!(read_with("FROM scratch\nARG X\nCOPY a$X /\n", &[("X", "2")]), "a2");
    let wild = read_with("FROM scratch\nARG X=1\nCOPY a$X /\n", &[("X", "?")]);
    assert_eq!(wild, "ab, a1, a2, az");
}

#[test]
fn bases_can_make_it_more() {
    let text = "FROM base\nARG X=1\nARG Y=2\nCOPY a$X /\n";
    let sources =
        crate::dockerfile::parser::parse(text.as_bytes(), &BTreeMap::new()).unwrap().sources;
    let variables = |names: &[&str]| names.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
    assert!(!sources.grow_with(false, &variables(&["PATH", "Y"])));
    assert!(sources.grow_with(false, &variables(&["PATH", "X"])));
    assert!(sources.grow_with(true, &[]));
}

#[test]
fn folders_above_what_is_read_are_told_from_others() {
    let sources = |pattern: &str| ContextReads::Only {
        patterns: vec![Pattern::parse(pattern).unwrap()],
        args: BTreeSet::new(),
    };
    let reach = |pattern: &str, path: &str| sources(pattern).reach(Path::new(path));
    assert_eq!(reach("a/b/c", "a"), Reach::Above);
    assert_eq!(reach("a/b/c", "a/b"), Reach::Above);
    assert_eq!(reach("a/b/c", "a/b/c/d"), Reach::Read);
    assert_eq!(reach("a/b/c", "a/bc"), Reach::Out);
    assert_eq!(reach("*/c", "x"), Reach::Above);
    assert_eq!(reach("*.c", "x"), Reach::Out);
}
