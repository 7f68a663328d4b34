//! From text to steps.

/// A step of a script.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Run(Command),
    /// `while true; do …; done`.
    Forever(Vec<Step>),
}

/// A program with its arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Command {
    pub(super) words: Vec<Vec<Part>>,
    pub(super) target: Option<Target>,
}

/// A piece of a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    Text(String),
    Variable(String),
}

/// Where the output goes instead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    Stderr,
    File { path: Vec<Part>, append: bool },
}

#[derive(Debug, PartialEq, Eq)]
enum Token {
    Word(Vec<Part>),
    Separator,
    Into { append: bool },
    IntoStderr,
}

/// The steps of a script, or what is not understood.
pub(crate) fn script(text: &str) -> Result<Vec<Step>, String> {
    let mut tokens = tokens(text)?;
    tokens.reverse();
    let steps = steps(&mut tokens)?;
    match tokens.pop() {
        None => Ok(steps),
        Some(token) => Err(format!("sh: {token:?} is unexpected")),
    }
}

/// Until the end, or a `done`. Takes tokens off the end of the list.
fn steps(tokens: &mut Vec<Token>) -> Result<Vec<Step>, String> {
    let mut steps = Vec::new();
    while let Some(token) = tokens.last() {
        if *token == Token::Separator {
            tokens.pop();
        } else if is_word(Some(token), "done") {
            break;
        } else if is_word(Some(token), "while") {
            steps.push(forever(tokens)?);
        } else {
            steps.push(Step::Run(command(tokens)?));
        }
    }
    Ok(steps)
}

fn is_word(token: Option<&Token>, wanted: &str) -> bool {
    matches!(token, Some(Token::Word(parts)) if matches!(&parts[..], [Part::Text(text)] if text == wanted))
}

fn forever(tokens: &mut Vec<Token>) -> Result<Step, String> {
    for wanted in ["while", "true"] {
        if !is_word(tokens.pop().as_ref(), wanted) {
            return Err("sh: only `while true` is understood".to_owned());
        }
    }
    tokens.pop_if(|token| *token == Token::Separator);
    if !is_word(tokens.pop().as_ref(), "do") {
        return Err("sh: `do` is missing".to_owned());
    }
    let body = steps(tokens)?;
    if !is_word(tokens.pop().as_ref(), "done") {
        return Err("sh: `done` is missing".to_owned());
    }
    Ok(Step::Forever(body))
}

fn command(tokens: &mut Vec<Token>) -> Result<Command, String> {
    let (mut words, mut target) = (Vec::new(), None);
    while let Some(token) = tokens.pop_if(|token| *token != Token::Separator) {
        match token {
            Token::Word(parts) => words.push(parts),
            Token::IntoStderr => target = Some(Target::Stderr),
            Token::Into { append } => match tokens.pop() {
                Some(Token::Word(path)) => target = Some(Target::File { path, append }),
                _ => return Err("sh: a file name is missing".to_owned()),
            },
            Token::Separator => {}
        }
    }
    if words.is_empty() {
        return Err("sh: a command is missing".to_owned());
    }
    Ok(Command { words, target })
}

fn tokens(text: &str) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut rest = text.chars().peekable();
    while let Some(&next) = rest.peek() {
        match next {
            ' ' | '\t' => drop(rest.next()),
            ';' | '\n' => {
                rest.next();
                tokens.push(Token::Separator);
            }
            '>' => {
                rest.next();
                let token = if rest.next_if_eq(&'>').is_some() {
                    Token::Into { append: true }
                } else if rest.next_if_eq(&'&').is_some() {
                    rest.next_if_eq(&'2')
                        .ok_or("sh: only `>&2` is understood")?;
                    Token::IntoStderr
                } else {
                    Token::Into { append: false }
                };
                tokens.push(token);
            }
            _ => tokens.push(Token::Word(word(&mut rest)?)),
        }
    }
    Ok(tokens)
}

type Characters<'a> = std::iter::Peekable<std::str::Chars<'a>>;

fn word(rest: &mut Characters<'_>) -> Result<Vec<Part>, String> {
    let (mut parts, mut text) = (Vec::new(), String::new());
    let mut quote = None;
    // A quoted word is one even if it is empty, and `"done"` is no keyword; we do not mind.
    while let Some(&next) = rest.peek() {
        match (next, quote) {
            ('\'' | '"', None) => quote = Some(next),
            (end, Some(open)) if end == open => quote = None,
            ('$', None | Some('"')) => {
                rest.next();
                parts.push(Part::Text(std::mem::take(&mut text)));
                parts.push(Part::Variable(variable(rest)));
                continue;
            }
            (' ' | '\t' | '\n' | ';' | '>', None) => break,
            (character, _) => text.push(character),
        }
        rest.next();
    }
    if quote.is_some() {
        return Err("sh: a quote is not closed".to_owned());
    }
    parts.push(Part::Text(text));
    Ok(parts)
}

fn variable(rest: &mut Characters<'_>) -> String {
    if rest.next_if_eq(&'?').is_some() {
        return "?".to_owned();
    }
    let mut name = String::new();
    while let Some(character) = rest.next_if(|c| c.is_ascii_alphanumeric() || *c == '_') {
        name.push(character);
    }
    name
}
