//! `ottla completions`: a script that lets a shell ask `ottla` how a word may go on.
//!
//! The script runs `ottla` for each completion, so that topics, groups and keys are those of the moment.

use std::io::Write as _;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use clap_complete::env::Shells;

use crate::output::stdout;

const EXAMPLES: &str = "\
Examples:
  ottla completions bash > ~/.local/share/bash-completion/completions/ottla
  ottla completions zsh  > ~/.zfunc/_ottla          (with ~/.zfunc in $fpath)
  ottla completions fish > ~/.config/fish/completions/ottla.fish

Topics and groups are asked of the cluster that -b or OTTLA_BOOTSTRAP_SERVERS names. After an upgrade of ottla the script
is to be written again.";

/// The variable by which the script tells `ottla` that it is to complete, and for which shell.
pub const VARIABLE: &str = "OTTLA_COMPLETE";

/// What `ottla completions` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The shell that will read the script.
    #[arg(value_enum)]
    shell: Shell,
}

/// A shell.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Elvish,
    Fish,
    Powershell,
    Zsh,
}

impl Shell {
    fn name(self) -> &'static str {
        match self {
            Self::Bash => "bash",
            Self::Elvish => "elvish",
            Self::Fish => "fish",
            Self::Powershell => "powershell",
            Self::Zsh => "zsh",
        }
    }
}

/// Prints the script.
pub fn run(args: &Args) -> Result<()> {
    let shells = Shells::builtins();
    let shell = shells.completer(args.shell.name());
    let shell = shell.context("this shell cannot be completed for")?;
    let mut script = Vec::new();
    shell.write_registration(VARIABLE, "ottla", "ottla", "ottla", &mut script)?;
    let mut out = stdout();
    out.write_all(&script)?;
    Ok(out.flush()?)
}
