//! The names that a template or a condition refers to, and what is wrong with its syntax.

use std::sync::LazyLock;

use minijinja::Environment;

/// Longest source of one template, in bytes.
const SOURCE_MAX: usize = 64 * 1024;

/// One environment for parsing: it holds no templates, only the built-in names.
static ENVIRONMENT: LazyLock<Environment<'static>> = LazyLock::new(Environment::new);
static GLOBALS: LazyLock<Vec<String>> =
    LazyLock::new(|| ENVIRONMENT.globals().map(|(name, _)| name.to_owned()).collect());

/// The two forms of the language.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Text with `{{ … }}` in it.
    Template,
    /// A bare expression.
    Condition,
}

impl Form {
    pub fn noun(self) -> &'static str {
        match self {
            Self::Template => "template",
            Self::Condition => "condition",
        }
    }
}

/// The names that the source does not declare itself, sorted.
///
/// # Errors
/// What is wrong and where, as text.
pub(super) fn names(source: &str, form: Form) -> Result<Vec<String>, String> {
    if source.len() > SOURCE_MAX {
        return Err(format!("it is {} bytes long, and {SOURCE_MAX} are allowed", source.len()));
    }
    let names = match form {
        Form::Template => {
            ENVIRONMENT.template_from_str(source).map(|parsed| parsed.undeclared_variables(false))
        }
        Form::Condition => {
            ENVIRONMENT.compile_expression(source).map(|parsed| parsed.undeclared_variables(false))
        }
    };
    let mut names: Vec<String> = names.map_err(|error| describe(&error))?.into_iter().collect();
    names.sort_unstable();
    Ok(names)
}

/// True for the functions that every template may call.
pub(super) fn is_global(name: &str) -> bool {
    GLOBALS.iter().any(|global| global == name)
}

fn describe(error: &minijinja::Error) -> String {
    let what = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
    match error.line() {
        Some(line) => format!("line {line}: {what}"),
        None => what,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_the_source_does_not_declare() {
        let source =
            "{% for page in pages %}{{ page.title ~ loop.index }}{{ input.q }}{% endfor %}";
        assert_eq!(names(source, Form::Template), Ok(vec!["input".into(), "pages".into()]));
        assert_eq!(
            names("intake.lang == 'en' and not draft", Form::Condition),
            Ok(vec!["draft".into(), "intake".into()])
        );
        assert_eq!(names("plain text", Form::Template), Ok(vec![]));
    }

    #[test]
    fn a_syntax_error_names_the_line() {
        let error = names("fine\n{{ a + }}", Form::Template).expect_err("it is broken");
        assert!(error.starts_with("line 2: "), "{error}");
        assert!(names("a ==", Form::Condition).is_err());
        assert!(names("a b", Form::Condition).is_err());
    }

    #[test]
    fn a_source_beyond_the_bound_is_refused_unread() {
        let error = names(&"x".repeat(SOURCE_MAX + 1), Form::Template).expect_err("too long");
        assert!(error.contains("65537"), "{error}");
    }

    #[test]
    fn built_in_functions_are_no_names() {
        assert!(is_global("range"));
        assert!(!is_global("fetch"));
    }
}
