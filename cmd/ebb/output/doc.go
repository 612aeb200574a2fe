// Package output prints what the user's commands found: tables for a person, JSON,
// YAML or names for a program. What comes in are objects and the columns to show; what
// goes out is text. Only commands call it.
package output
