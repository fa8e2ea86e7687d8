//! `ottla completions`: prints the script with which a shell completes words of `ottla`.
//!
//! The script runs `ottla` for each completion, so the topics, groups and keys are always current.

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

Topics and groups come from the cluster that -b or OTTLA_BOOTSTRAP_SERVERS names. Write the script again after each
upgrade of ottla.";

/// The script sets this variable to the name of its shell, so that `ottla` completes instead of
/// running a command.
pub const VARIABLE: &str = "OTTLA_COMPLETE";

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The shell that will read the script.
    #[arg(value_enum)]
    shell: Shell,
}

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

pub fn run(args: &Args) -> Result<()> {
    let shells = Shells::builtins();
    let shell = shells.completer(args.shell.name());
    let shell = shell.context("there is no completion script for this shell")?;
    let mut script = Vec::new();
    shell.write_registration(VARIABLE, "ottla", "ottla", "ottla", &mut script)?;
    let mut out = stdout();
    out.write_all(&script)?;
    Ok(out.flush()?)
}
