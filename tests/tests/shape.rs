//! A tree of the size and shape of OpenPAI's: forty-odd components, half of them
//! with images, on a few bases, in chains, with hooks and flavors.

use std::fmt::Write;

use tests::Workspace;
use tests::engine::has_image;

const SOURCES: usize = 18;
const BASES: usize = 3;
const SERVICES: usize = 22;
const CHAIN: usize = 5;

fn openpai_like() -> Workspace {
    let mut workspace = Workspace::new().with_box();
    for n in 0..SOURCES {
        for file in 0..10 {
            workspace = workspace.file(&format!("src/source-{n:02}/lib/file-{file}"), "text\n");
        }
    }
    for n in 0..BASES {
        let dockerfile = format!("FROM tt-box\nLABEL base={n}\nCOPY build /base\n");
        workspace = workspace
            .file(&format!("src/base-{n}/build/tt-base-{n}.common.dockerfile"), &dockerfile);
    }
    for n in 0..SERVICES {
        let mut needed = String::from("# what the hook reads\n");
        writeln!(needed, "source-{:02}", n % SOURCES).unwrap();
        let dockerfile = format!(
            "FROM tt-base-{}\nCOPY dependency/source-{:02}/lib /lib\nCOPY . /app\n",
            n % BASES,
            n % SOURCES
        );
        let dir = format!("src/service-{n:02}");
        let flavor = ["common", "k8s", "yarn"][n % 3];
        workspace = workspace
            .file(&format!("{dir}/build/component.dep"), &needed)
            .file(&format!("{dir}/build/tt-service-{n:02}.{flavor}.dockerfile"), &dockerfile)
            .file(&format!("{dir}/main"), "x\n");
        if n % 4 == 0 {
            let hook = format!(
                "#!/bin/bash\npushd $(dirname \"$0\") > /dev/null\nmkdir -p ../generated\n\
                 ls ../dependency/source-{:02}/lib > ../generated/list\npopd > /dev/null\n",
                n % SOURCES
            );
            workspace = workspace.script(&format!("{dir}/build/build-pre.sh"), &hook);
        }
    }
    for n in 1..CHAIN {
        let before = if n == 1 { "service-00".to_owned() } else { format!("chain-{}", n - 1) };
        workspace =
            workspace.image(&format!("chain-{n}"), &format!("FROM tt-{before}\nLABEL n={n}\n"));
    }
    workspace
}

#[test]
fn it_is_built_wholly_in_order_and_left_clean() {
    let workspace = openpai_like();
    let before = workspace.tree();
    let output = workspace.xtask(&["build"]).exits_with(0);
    let built = output.built();
    assert_eq!(built.len(), BASES + SERVICES + CHAIN - 1);
    let place = |name: &str| built.iter().position(|built| *built == name).expect("it was built");
    for n in 0..SERVICES {
        assert!(place(&format!("base-{}", n % BASES)) < place(&format!("service-{n:02}")));
        assert!(has_image(&workspace.own(&format!("tt-service-{n:02}"))));
    }
    assert!(place("service-00") < place("chain-1") && place("chain-3") < place("chain-4"));
    assert_eq!(workspace.tree(), before);
}
