use super::Via::{CopyFrom, From, MountFrom};
use super::*;
use crate::dockerfile::excerpt;
use crate::dockerfile::lexer::MAX_DEPTH;

type Expected<'a> = &'a [(&'a str, usize, Via, bool)];

fn uses(text: &str, args: &[(&str, &str)]) -> Result<Vec<(String, usize, Via, bool)>, ParseError> {
    let args = args.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let dockerfile = parse(text.as_bytes(), &args, None)?;
    let flat = dockerfile.uses.into_iter();
    Ok(flat.map(|used| (used.reference, used.line, used.via, used.is_reached)).collect())
}

/// A name, a Dockerfile, build args, and the expected uses.
type Case<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], Expected<'a>);

const CASES: &[Case] = &[
    ("plain", "FROM a\n", &[], &[("a", 1, From, true)]),
    ("any case", "from a As b\nFrom B\n", &[], &[("a", 1, From, true)]),
    ("platform", "FROM --platform=linux/arm64 a:1\n", &[], &[("a:1", 1, From, true)]),
    ("scratch", "FROM scratch\n", &[], &[]),
    (
        "digest and port",
        "FROM r:5000/x/a@sha256:0000000000000000000000000000000000000000000000000000000000000000\n",
        &[],
        &[(
            "r:5000/x/a@sha256:0000000000000000000000000000000000000000000000000000000000000000",
            1,
            From,
            true,
        )],
    ),
    (
        "continuation",
        "FROM \\\n  a \\\n  AS b\nCOPY \\\n --from=c x y\n",
        &[],
        &[("a", 1, From, true), ("c", 4, CopyFrom, true)],
    ),
    ("comment in a continuation", "FROM \\\n# FROM no\n a\n", &[], &[("a", 1, From, true)]),
    ("escape directive", "# escape=`\nFROM `\n a\n", &[], &[("a", 2, From, true)]),
    ("syntax directive", "# syntax=docker/dockerfile:1\nFROM a\n", &[], &[("a", 2, From, true)]),
    ("comment", "# FROM no\nFROM a\n", &[], &[("a", 2, From, true)]),
    (
        "heredoc",
        "FROM a\nRUN <<EOF\nFROM no\nCOPY --from=no x y\nEOF\nCOPY --from=b x y\n",
        &[],
        &[("a", 1, From, true), ("b", 6, CopyFrom, true)],
    ),
    ("heredoc of COPY", "FROM a\nCOPY <<'X' /f\nFROM no\nX\n", &[], &[("a", 1, From, true)]),
    (
        "crlf",
        "FROM a\r\nCOPY --from=b x y\r\n",
        &[],
        &[("a", 1, From, true), ("b", 2, CopyFrom, true)],
    ),
    ("byte order mark", "\u{feff}FROM a\n", &[], &[("a", 1, From, true)]),
    ("no last line break", "FROM a", &[], &[("a", 1, From, true)]),
    (
        "stages",
        "FROM a AS x\nFROM b AS y\nFROM x\nCOPY --from=y f f\n",
        &[],
        &[("a", 1, From, true), ("b", 2, From, true)],
    ),
    (
        "an unused stage",
        "FROM a AS x\nFROM b\n",
        &[],
        &[("a", 1, From, false), ("b", 2, From, true)],
    ),
    ("an alias shadows an image", "FROM a AS b\nFROM b\n", &[], &[("a", 1, From, true)]),
    (
        "but not before its stage",
        "FROM b\nFROM a AS b\n",
        &[],
        &[("b", 1, From, false), ("a", 2, From, true)],
    ),
    ("nor in its own", "FROM b AS b\n", &[], &[("b", 1, From, true)]),
    (
        "stage number",
        "FROM a\nFROM b\nCOPY --from=0 f f\n",
        &[],
        &[("a", 1, From, true), ("b", 2, From, true)],
    ),
    (
        "copy from an image",
        "FROM a\nCOPY --chown=1:1 --from=b:2 f f\n",
        &[],
        &[("a", 1, From, true), ("b:2", 2, CopyFrom, true)],
    ),
    (
        "a trigger is for the builds that run it",
        "FROM a\nONBUILD COPY --from=$X f f\nONBUILD COPY --from=b// f f\nONBUILD COPY --from=c f f\n",
        &[],
        &[("a", 1, From, true), ("c", 4, CopyFrom, false)],
    ),
    (
        "a trigger runs in a stage of the same file",
        "FROM a AS x\nFROM b AS y\nONBUILD COPY --from=x f f\nONBUILD RUN --mount=from=c ls\nONBUILD COPY --from=1 f f\nFROM y\nFROM y AS z\n",
        &[],
        &[
            ("a", 1, From, true),
            ("b", 2, From, true),
            ("c", 4, MountFrom, false),
            ("c", 4, MountFrom, true),
        ],
    ),
    (
        "mounts",
        "FROM a\nRUN --mount=type=bind,from=b,target=/b --mount=from=c,target=/c --mount=type=cache,target=/d,from=d true\n",
        &[],
        &[
            ("a", 1, From, true),
            ("b", 2, MountFrom, true),
            ("c", 2, MountFrom, true),
            ("d", 2, MountFrom, true),
        ],
    ),
    (
        "a mount of a stage",
        "FROM a AS x\nFROM scratch\nRUN --mount=type=bind,from=x,target=/x [\"/x\"]\n",
        &[],
        &[("a", 1, From, true)],
    ),
    (
        "onbuild",
        "FROM a\nONBUILD COPY --from=b f f\nCOPY --from=c f f\n",
        &[],
        &[("a", 1, From, true), ("b", 2, CopyFrom, false), ("c", 3, CopyFrom, true)],
    ),
    ("arg default", "ARG BASE=a\nFROM $BASE\n", &[], &[("a", 2, From, true)]),
    (
        "arg in braces",
        "ARG BASE=\"a\"\nARG TAG=1\nFROM ${BASE}:${TAG}-x\n",
        &[],
        &[("a:1-x", 3, From, true)],
    ),
    ("build arg", "ARG BASE=a\nFROM $BASE\n", &[("BASE", "b")], &[("b", 2, From, true)]),
    ("undeclared build arg", "FROM ${BASE:-a}\n", &[("BASE", "b")], &[("a", 1, From, true)]),
    ("two args on a line", "ARG A=a B='b'\nFROM $A-$B\n", &[], &[("a-b", 2, From, true)]),
    ("an arg of an arg", "ARG A=a\nARG B=${A}x\nFROM $B\n", &[], &[("ax", 3, From, true)]),
    (
        "defaults",
        "ARG E=\nFROM ${E:-a}${E-no}${U-${U:-b}}${E:+no}${E+c}\n",
        &[],
        &[("abc", 2, From, true)],
    ),
    (
        "an arg inside a stage is not global",
        "FROM a\nARG X=b\nFROM ${X:-c}\n",
        &[],
        &[("a", 1, From, false), ("c", 3, From, true)],
    ),
    (
        "quotes anywhere in a word",
        "ARG T=\"1\" S=-de\"bug\"\nFROM img:\"1\"\nFROM \"img\":$T\nFROM c-\"$T\"$S\nCOPY --from='img' a b\n",
        &[],
        &[
            ("img:1", 2, From, false),
            ("img:1", 3, From, false),
            ("c-1-debug", 4, From, true),
            ("img", 5, CopyFrom, true),
        ],
    ),
    (
        "modifiers",
        "ARG X=a.b.c E=\nFROM ${X#*.}-${X##*.}-${X%.*}-${X%%.*}-${X/./_}-${X//./_}-${X:?no}${E?no}\n",
        &[],
        &[("b.c-c-a.b-a-a_b.c-a_b_c-a.b.c", 2, From, true)],
    ),
    (
        "here-documents wherever they stand",
        "FROM a\nRUN cat <<EOF > /x && cat <<-'E 2'\nFROM no\nEOF\n\tFROM no\n\tE 2\nRUN --mount=\"type=bind,from=c\",target=/c 3<<E python3\nFROM no\nE\nONBUILD RUN <<E\nFROM no\nE\nRUN [\"<<E\"]\nENTRYPOINT []\nCOPY --from=b x y\n",
        &[],
        &[("a", 1, From, true), ("c", 7, MountFrom, true), ("b", 15, CopyFrom, true)],
    ),
    (
        "directives at the top alone",
        "# escape=`\n\n# syntax=x\nFROM `\n a1\nLABEL a=\\\nCOPY --from=b x y\n",
        &[],
        &[("a1", 4, From, true), ("b", 7, CopyFrom, true)],
    ),
    (
        "a quoted field",
        "FROM a\nRUN --mount='type=bind,\"from=b\"' x\n",
        &[],
        &[("a", 1, From, true), ("b", 2, MountFrom, true)],
    ),
    (
        "a shift that looks like a here-document",
        "FROM a\nRUN echo $((1 <<3))\nCOPY --from=b x y\n",
        &[],
        &[("a", 1, From, true), ("b", 3, CopyFrom, true)],
    ),
    (
        "an arg without a value, as older and as newer engines read it",
        "ARG TARGETOS\nARG X\nFROM a$TARGETOS AS x\nFROM ${X-b}${X:+no}\n",
        &[],
        &[("alinux", 3, From, false), ("b", 4, From, true)],
    ),
    (
        "both of which are possible",
        "ARG TARGETOS\nFROM a$TARGETOS\n",
        &[],
        &[("alinux", 2, From, true), ("a", 2, From, false)],
    ),
    (
        "an arg without a value after one with it",
        "ARG X=a\nARG X\nFROM $X\n",
        &[],
        &[("a", 3, From, true)],
    ),
    ("several spaces and tabs", "  FROM \t a   AS   b\n", &[], &[("a", 1, From, true)]),
];

#[test]
fn every_construct_that_names_an_image_is_found() {
    for (name, text, args, expected) in CASES {
        let expected: Vec<_> =
            expected.iter().map(|(r, l, v, n)| ((*r).to_owned(), *l, *v, *n)).collect();
        assert_eq!(uses(text, args), Ok(expected), "{name}:\n{text}");
    }
}

#[test]
fn the_platform_and_its_variables_are_expanded() {
    let text = b"FROM --platform=$BUILDPLATFORM a-${TARGETOS}\n";
    let used = parse(text, &BTreeMap::new(), None).unwrap().uses.remove(0);
    assert_eq!(used.reference, "a-linux");
    assert!(used.platform.unwrap().starts_with("linux/"));
}

#[test]
fn a_build_arg_overrides_a_platform_argument() {
    let from = |text: &str, args: &[(&str, &str)]| uses(text, args).unwrap().remove(0).0;
    let given = [("TARGETARCH", "s390x"), ("BUILDVARIANT", "v8"), ("TARGETSTAGE", "last")];
    let text = "FROM a-$TARGETARCH-$BUILDVARIANT-${TARGETSTAGE}\n";
    assert_eq!(from(text, &given), "a-s390x-v8-last");
    assert_eq!(from(&format!("ARG TARGETARCH=x\n{text}"), &given), "a-s390x-v8-last");
    assert_eq!(from("FROM a-${BUILDVARIANT:-none}-$TARGETSTAGE\n", &[]), "a-none-default");
    // Builders do not predefine these.
    let others = [("BUILDSTAGE", "x"), ("TARGETNAME", "x"), ("targetarch", "x")];
    assert_eq!(from("FROM a$BUILDSTAGE$TARGETNAME$targetarch\n", &others), "a");
}

#[test]
fn excessive_expansion_is_an_error_with_its_line() {
    let none = BTreeMap::new();
    let error = |text: &str| parse(text.as_bytes(), &none, None).unwrap_err();
    let twice = |n| format!("ARG A{n}=${{A{0}}}${{A{0}}}", n - 1);
    let doubling = (1..40).map(twice).collect::<Vec<_>>().join("\n");
    let long = error(&format!("ARG A0=x\n{doubling}\nFROM $A39\n"));
    assert_eq!(long, ParseError::Word { line: 18, source: LexError::TooLong });
    let nested = |depth| format!("FROM {}a{}\n", "${X:-".repeat(depth), "}".repeat(depth));
    assert!(parse(nested(MAX_DEPTH).as_bytes(), &none, None).is_ok());
    let deep = error(&nested(100_000));
    assert_eq!(deep, ParseError::Word { line: 1, source: LexError::TooDeep });
    // Inside a stage it is no error, but the files that are read are unknown.
    let text = format!("FROM a\nARG A0=x\n{doubling}\nCOPY $A39 /\n");
    assert_eq!(parse(text.as_bytes(), &none, None).unwrap().context_reads, ContextReads::All);
}

#[test]
fn parse_errors_say_what_is_wrong_and_where() {
    let none = BTreeMap::new();
    let error = |bytes: &[u8]| parse(bytes, &none, None).unwrap_err();
    assert_eq!(error(b""), ParseError::Empty);
    assert_eq!(error(b"\n# only a comment\n"), ParseError::Empty);
    assert!(error(b"ARG X=1\n").to_string().contains("FROM"));
    assert_eq!(error(b"\x7fELF\0\0"), ParseError::Binary);
    assert_eq!(error(b"FROM a\nLABEL x=\xff\n"), ParseError::NotUtf8 { line: 2 });
    assert_eq!(error(b"FROM a\n\nRUUN x\n").line(), Some(3));
    let said = |text: &str| {
        let error = error(text.as_bytes());
        format!("{}: {error}", error.line().unwrap_or_default())
    };
    for (text, expected) in [
        (
            "FROM a\nRUN <<E\nls /\n",
            "2: is not a Dockerfile: the here-document 'E' has no end: add a line with it",
        ),
        (
            "FROM a b\n",
            "1: is not a Dockerfile: FROM takes an image, and 'AS' with the name of the stage",
        ),
        (
            "ARG X=b\nFROM a\nCOPY --from=$X f f\n",
            "3: COPY --from expands no variables: name a stage 'FROM $X AS NAME', and use its name here",
        ),
        (
            "FROM a\nRUN --mount=from=${X},target=/x true\n",
            "2: RUN --mount from expands no variables: name a stage 'FROM ${X} AS NAME', and use its name here",
        ),
        (
            "ARG X=b//c\nFROM a\nFROM $X\n",
            "3: 'b//c' is not an image reference: a part of its name is empty: remove a '/'",
        ),
        (
            "FROM a\nCOPY --from=B f f\n",
            "2: 'B' is not an image reference: repository names are lowercase: write 'b'",
        ),
        (
            "ARG T=1 U='$T'\nFROM x$U\n",
            "2: 'x$T' is not an image reference: 'x$T' must consist of a-z and 0-9, separated by '.', '_', '__' or '-'",
        ),
        (
            "FROM x\\$T\n",
            "1: 'x$T' is not an image reference: 'x$T' must consist of a-z and 0-9, separated by '.', '_', '__' or '-'",
        ),
        ("FROM ${X\n", "1: has no closing }: add it, or escape the opening one"),
        ("FROM 'a\n", "1: has no closing ': add it, or escape the opening one"),
        (
            "ARG A=${X:?give}\nFROM a\n",
            "1: needs a value for X: give. Set the ARG's default, or use --build-arg",
        ),
        (
            "FROM ${X?}\n",
            "1: needs a value for X: it is not allowed to be unset. Set the ARG's default, or use --build-arg",
        ),
        ("FROM ${X^}\n", "1: has an invalid variable '${X^': write ${NAME} or ${NAME:-default}"),
        ("# escape=x\nFROM a\n", "1: is not a Dockerfile: '# escape=x' is neither \\ nor `"),
    ] {
        assert_eq!(said(text), expected);
    }
    let empty = error(b"ARG X\nFROM $X\n");
    assert_eq!(empty.line(), Some(2));
    assert!(empty.to_string().contains("--build-arg"), "{empty}");
    assert!(parse(b"RUN x\nFROM a\n", &none, None).is_err());
}

/// Whole files and pieces of files, mutated: nothing panics or hangs, no text grows without
/// bound, and what an engine's error is about is looked for in all of them.
#[test]
fn no_input_causes_a_panic() {
    let seed = fastrand::u64(..);
    let mut rng = fastrand::Rng::with_seed(seed);
    let rows = include_str!("../syntax/buildkit.txt").lines().filter(|row| !row.starts_with('#'));
    let mut files: Vec<Vec<u8>> = rows
        .map(|row| {
            serde_json::from_str::<(String, Option<Vec<String>>)>(row).unwrap().0.into_bytes()
        })
        .collect();
    let own: [&[u8]; 2] = [
        b"# escape=`\nARG A=\"x\" B=${A:-y}\nFROM --platform=$P ${A}:$B AS s\nRUN --mount=from=0,target=/x <<E\nx\nE\nCOPY --from=s [\"a\", \"b\"]\n",
        b"ARG A=a*b\nFROM ${A//\\*/x}${A#?}${A%%[a-c]}@sha256:0 AS s\nENV A=$A$A\nCOPY --exclude=*.x $A \"$A\" /\nADD --checksum=x https://a/b /\n",
    ];
    files.extend(own.map(<[u8]>::to_vec));
    let parts: [&[u8]; 14] = [
        b"$", b"\\", b"{", b"}", b"\"", b"'", b"=", b"\n", b"`", b"<<E", b"#", b"${A", b":-",
        b"\xff",
    ];
    for _ in 0..30_000 {
        let mut text = rng.choice(&files).unwrap().clone();
        for _ in 0..rng.usize(1..9) {
            let offset = rng.usize(..=text.len());
            match rng.u8(..5) {
                0 if offset < text.len() => text[offset] = rng.u8(..),
                1 if offset < text.len() => drop(text.remove(offset)),
                2 => text.truncate(offset),
                3 => text.extend_from_within(offset..),
                _ => drop(text.splice(offset..offset, rng.choice(parts).unwrap().iter().copied())),
            }
        }
        let read = std::panic::catch_unwind(|| {
            drop(parse(&text, &BTreeMap::from([("A".to_owned(), "a$A".to_owned())]), None));
            excerpt::locate(&text, Some("[s 2/3] RUN x"), "failed to compute cache key: \"/a\"")
        });
        assert!(read.is_ok(), "seed {seed}: {:?}", String::from_utf8_lossy(&text));
    }
}
