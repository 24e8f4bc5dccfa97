//! As much of GraphQL as the test's Weaviate understands: one query of nested fields with arguments.

use serde_json::{Map, Value};

/// A field: its arguments, and what is selected below it.
#[derive(Debug, PartialEq)]
pub(super) struct Field {
    pub name: String,
    pub arguments: Map<String, Value>,
    pub fields: Vec<Field>,
}

struct Parser<'a> {
    rest: &'a str,
}

pub(super) fn parse(query: &str) -> Result<Vec<Field>, String> {
    let mut parser = Parser { rest: query };
    let fields = parser.selection()?;
    parser.skip();
    if parser.rest.is_empty() { Ok(fields) } else { Err(format!("Unexpected: {}", parser.rest)) }
}

impl Parser<'_> {
    fn skip(&mut self) {
        self.rest = self.rest.trim_start_matches([' ', '\n', '\t', ',']);
    }

    fn peek(&mut self) -> Option<char> {
        self.skip();
        self.rest.chars().next()
    }

    fn eats(&mut self, c: char) -> bool {
        let is = self.peek() == Some(c);
        if is {
            self.rest = &self.rest[c.len_utf8()..];
        }
        is
    }

    fn expect(&mut self, c: char) -> Result<(), String> {
        if self.eats(c) {
            Ok(())
        } else {
            Err(format!("Syntax Error: expected {c} at {}", self.rest))
        }
    }

    fn name(&mut self) -> Result<String, String> {
        self.skip();
        let len = self.rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let (name, rest) = self.rest.split_at(len.unwrap_or(self.rest.len()));
        if name.is_empty() {
            return Err(format!("Syntax Error: expected a name at {rest}"));
        }
        let name = name.to_owned();
        self.rest = rest;
        Ok(name)
    }

    fn selection(&mut self) -> Result<Vec<Field>, String> {
        self.expect('{')?;
        let mut fields = Vec::new();
        while !self.eats('}') {
            let name = self.name()?;
            let mut arguments = Map::new();
            if self.eats('(') {
                while !self.eats(')') {
                    let name = self.name()?;
                    self.expect(':')?;
                    arguments.insert(name, self.value()?);
                }
            }
            let below = if self.peek() == Some('{') { self.selection()? } else { Vec::new() };
            fields.push(Field { name, arguments, fields: below });
        }
        if fields.is_empty() { Err("Syntax Error: nothing selected".into()) } else { Ok(fields) }
    }

    fn value(&mut self) -> Result<Value, String> {
        match self.peek().ok_or("Syntax Error: a value is missing")? {
            '{' => {
                self.expect('{')?;
                let mut object = Map::new();
                while !self.eats('}') {
                    let name = self.name()?;
                    self.expect(':')?;
                    object.insert(name, self.value()?);
                }
                Ok(object.into())
            }
            '[' => {
                self.expect('[')?;
                let mut list = Vec::new();
                while !self.eats(']') {
                    list.push(self.value()?);
                }
                Ok(list.into())
            }
            c if c == '"' || c == '-' || c.is_ascii_digit() => {
                let mut stream = serde_json::Deserializer::from_str(self.rest).into_iter::<Value>();
                let value = stream.next().ok_or("no value")?.map_err(|e| e.to_string())?;
                self.rest = &self.rest[stream.byte_offset()..];
                Ok(value)
            }
            // An enum's value.
            _ => Ok(Value::String(format!("enum {}", self.name()?))),
        }
    }
}
