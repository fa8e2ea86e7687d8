//! `ottla completions`: a completion script for a shell, derived from the same structs as `--help`.

use std::io::{self, Write as _};

use anyhow::Result;
use clap_complete::Shell;

const EXAMPLES: &str = "\
Examples:
  ottla completions bash > ~/.local/share/bash-completion/completions/ottla
  ottla completions zsh  > ~/.zfunc/_ottla          (with ~/.zfunc in $fpath)
  ottla completions fish > ~/.config/fish/completions/ottla.fish";

/// What `ottla completions` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The shell that will read the script.
    #[arg(value_enum)]
    shell: Shell,
}

/// Prints the script.
pub fn run(args: &Args, command: &mut clap::Command) -> Result<()> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, command, "ottla", &mut script);
    io::stdout().write_all(&script)?;
    Ok(())
}
