use super::*;

/// The paths of a context that a Dockerfile reads; `all` for the whole context.
fn read_with(text: &str, args: &[(&str, &str)]) -> String {
    const PATHS: [&str; 12] =
        ["a", "a/x", "a/deep/y", "ab", "b.txt", "c.txt", "d", "d/b.txt", "d e", "a1", "a2", "az"];
    let args = args.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let dockerfile = crate::dockerfile::parser::parse(text.as_bytes(), &args, None).unwrap();
    if dockerfile.context_reads == ContextReads::All {
        return "all".to_owned();
    }
    let is_read = |path: &&&str| dockerfile.context_reads.reach(Path::new(path)) == Reach::Read;
    PATHS.iter().filter(is_read).copied().collect::<Vec<_>>().join(", ")
}

fn read(instructions: &str) -> String {
    read_with(&format!("FROM scratch\n{instructions}\n"), &[])
}

#[test]
fn instructions_read_their_sources() {
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
        ("ENV X a1\nCOPY $X /", "a1"),
        ("ENV X='a1' Y=a\\ b\nCOPY $X /", "a1"),
        ("COPY a\\1 \"d\"''/ /x", "d, d/b.txt, a1"),
        ("COPY [\"d' e'\", \"/x\"]", "d e"),
        ("ENV X=a\nCOPY ${X:-b}1 ${X:+d} /", "d, d/b.txt, a1"),
        ("RUN --mount=\"type=bind,source=d\",target=/d ls", "d, d/b.txt"),
        ("RUN cat <<EOF > /x\ntext . /\nEOF", ""),
        ("# syntax = docker/dockerfile:1\nCOPY a1 /", "a1"),
        ("# escape=`\nCOPY a1 /", "a1"),
        ("ONBUILD COPY . /", ""),
        ("LABEL x=<<y\nCMD COPY . /", ""),
        ("COPY a1\u{b}\u{c} a2 /", "a1, a2"),
        ("COPY x\u{3000}a1 y\u{a0}a2 /\u{202f}ab /", ""),
        ("ARG A=1 B=2\nCOPY a$A a$B /", "a1, a2"),
    ];
    for (instructions, expected) in cases {
        assert_eq!(read(instructions), expected, "{instructions}");
    }
}

#[test]
fn uncertain_sources_read_the_whole_context() {
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
        "COPY a\\\\b /",
        "COPY '$X' /",
        "COPY a[ /",
        "COPY **/b.txt /",
        "COPY [\"ab\",\"/x\"] # more",
        "COPY [\"ab\",\"/x\"]more",
        "ADD [\"ab\",\"/x\"] [\"\"]",
        "ARG A=1 B=$A\nCOPY a$B /",
        "ARG A=1\nARG A=2 B=${A}\nCOPY a$B /",
        "RUN --mount=type=bind,source=a\\ ,target=/x ls",
        "RUN echo $((1 <<3))\nCOPY a1 /",
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
    ];
    for instructions in cases {
        let text = format!("FROM scratch\n{instructions}\n");
        let args = BTreeMap::new();
        // An invalid Dockerfile is not built.
        if let Ok(dockerfile) = crate::dockerfile::parser::parse(text.as_bytes(), &args, None) {
            assert_eq!(dockerfile.context_reads, ContextReads::All, "{instructions}");
        }
    }
    assert_eq!(read_with("FROM scratch AS x\nONBUILD COPY a /\nFROM x\n", &[]), "all");
    assert_eq!(read_with("FROM scratch\nCOPY a /\n", &[("BUILDKIT_SYNTAX", "x")]), "all");
    for (frontend, is_known) in [
        ("docker/dockerfile:1", true),
        ("docker.io/docker/dockerfile:1.7-labs", true),
        ("docker/dockerfile-upstream:master@sha256:00", true),
        ("docker/dockerfile:2", false),
        ("docker/dockerfile:0.1", false),
        ("example.org/docker/dockerfile:1", false),
    ] {
        let text = format!("# syntax={frontend}\nFROM scratch\nCOPY a1 /\n");
        assert_eq!(read_with(&text, &[]), if is_known { "a1" } else { "all" }, "{frontend}");
    }
    for notation in ["// syntax=x\n", "{\"syntax\": \"x\"}\n"] {
        let text = format!("# {notation}{notation}FROM scratch\nCOPY a1 /\n");
        if let Ok(dockerfile) =
            crate::dockerfile::parser::parse(text.as_bytes(), &BTreeMap::new(), None)
        {
            assert_eq!(dockerfile.context_reads, ContextReads::All, "{text}");
        }
    }
}

#[test]
fn variables_are_expanded_where_they_are_certain() {
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
fn bases_can_add_to_what_is_read() {
    let text = "FROM base\nARG X=1\nARG Y=2\nCOPY a$X /\n";
    let reads = crate::dockerfile::parser::parse(text.as_bytes(), &BTreeMap::new(), None)
        .unwrap()
        .context_reads;
    let variables =
        |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    assert!(!reads.may_grow_with(false, &variables(&["PATH", "Y"])));
    assert!(reads.may_grow_with(false, &variables(&["PATH", "X"])));
    assert!(reads.may_grow_with(true, &[]));
}

#[test]
fn parents_of_readable_paths_are_recognized() {
    let reads = |pattern: &str| ContextReads::Only {
        patterns: vec![Pattern::parse(pattern).unwrap()],
        args: BTreeSet::new(),
        keeps_parents: false,
    };
    let reach = |pattern: &str, path: &str| reads(pattern).reach(Path::new(path));
    assert_eq!(reach("a/b/c", "a"), Reach::Parent);
    assert_eq!(reach("a/b/c", "a/b"), Reach::Parent);
    assert_eq!(reach("a/b/c", "a/b/c/d"), Reach::Read);
    assert_eq!(reach("a/b/c", "a/bc"), Reach::Unread);
    assert_eq!(reach("*/c", "x"), Reach::Parent);
    assert_eq!(reach("*.c", "x"), Reach::Unread);
}
