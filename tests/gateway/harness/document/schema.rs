//! The part of JSON Schema that the documents use. Patterns and formats are left to other tools.

use serde_json::Value;

/// The schemas of a document.
#[derive(Clone, Copy, Debug)]
pub(super) struct Schemas<'a> {
    document: &'a Value,
}

impl<'a> Schemas<'a> {
    pub(super) fn new(document: &'a Value) -> Self {
        Self { document }
    }

    /// Checks a value. An object may have only the members that its schema lists, which is stricter than JSON Schema.
    ///
    /// # Errors
    ///
    /// The place of the first fault, and what it is.
    pub(super) fn check(self, schema: &Value, value: &Value, place: &str) -> Result<(), String> {
        if let Some(reference) = schema["$ref"].as_str() {
            let target = self.document.pointer(&reference[1..]).unwrap_or_else(|| panic!("{reference} is not there"));
            self.check(target, value, place)?;
        }
        let wrong = |what: &str| Err(format!("{place} is {what}: {}", clipped(value)));
        if schema.get("const").is_some_and(|one| one != value) {
            return wrong("another value");
        }
        if schema["enum"].as_array().is_some_and(|values| !values.contains(value)) {
            return wrong("no value of the list");
        }
        let types: Vec<&str> = match &schema["type"] {
            Value::String(name) => vec![name],
            Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => Vec::new(),
        };
        if !types.is_empty() && !types.iter().any(|name| is_of(name, value)) {
            return wrong("of another type");
        }
        let bounds = [("minimum", false), ("maximum", true)];
        for (name, is_upper) in bounds {
            if let (Some(bound), Some(number)) = (schema[name].as_f64(), value.as_f64())
                && (if is_upper { number > bound } else { number < bound })
            {
                return wrong("out of its bounds");
            }
        }
        let length = value.as_array().map(Vec::len).or_else(|| value.as_str().map(|text| text.chars().count()));
        for (name, is_upper) in [("minItems", false), ("maxItems", true), ("minLength", false), ("maxLength", true)] {
            if let (Some(bound), Some(length)) = (schema[name].as_u64(), length)
                && (if is_upper { length as u64 > bound } else { (length as u64) < bound })
            {
                return wrong("of another length");
            }
        }
        self.check_members(schema, value, place)?;
        for (index, item) in value.as_array().into_iter().flatten().enumerate() {
            self.check(&schema["items"], item, &format!("{place}/{index}"))?;
        }
        for part in schema["allOf"].as_array().into_iter().flatten() {
            self.check(part, value, place)?;
        }
        if let Some(parts) = schema["anyOf"].as_array() {
            let problems: Vec<String> = parts.iter().filter_map(|part| self.check(part, value, place).err()).collect();
            if problems.len() == parts.len() {
                return Err(problems.join("; or "));
            }
        }
        if let Some(parts) = schema["oneOf"].as_array()
            && parts.iter().filter(|part| self.check(part, value, place).is_ok()).count() != 1
        {
            return wrong("not exactly one of the alternatives");
        }
        Ok(())
    }

    fn check_members(self, schema: &Value, value: &Value, place: &str) -> Result<(), String> {
        let Some(members) = value.as_object() else { return Ok(()) };
        for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !members.contains_key(name) {
                return Err(format!("{place}/{name} is required and missing"));
            }
        }
        if schema["additionalProperties"].is_object() {
            let mut each = members.iter();
            return each.try_for_each(|(name, member)| {
                self.check(&schema["additionalProperties"], member, &format!("{place}/{name}"))
            });
        }
        let Some(known) = schema["properties"].as_object() else { return Ok(()) };
        // A schema that only adds to another one has no type.
        let is_closed = schema.get("type").is_some() && schema["additionalProperties"] != true;
        for (name, member) in members {
            match known.get(name) {
                Some(schema) => self.check(schema, member, &format!("{place}/{name}"))?,
                None if is_closed => return Err(format!("{place}/{name} is not documented")),
                None => {}
            }
        }
        Ok(())
    }
}

fn is_of(name: &str, value: &Value) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        _ => panic!("no type {name}"),
    }
}

fn clipped(value: &Value) -> String {
    value.to_string().chars().take(80).collect()
}
