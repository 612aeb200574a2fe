package filter

import (
	"fmt"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/antlr/antlr4/runtime/Go/antlr"
	cesql "github.com/cloudevents/sdk-go/sql/v2"
	"github.com/cloudevents/sdk-go/sql/v2/gen"
	"github.com/cloudevents/sdk-go/sql/v2/parser"
	"github.com/cloudevents/sdk-go/sql/v2/utils"
	sdk "github.com/cloudevents/sdk-go/v2"
)

const maxBrackets = 64 // inside each other; the parser calls itself for each

// expression is one that was parsed.
type expression struct{ cesql.Expression }

// holds evaluates the expression; one that fails does not hold (CESQL 1.0, Error handling: the filter is false).
func (x expression) holds(s *Subject) (ok bool) {
	result, err := x.evaluate(s.sql.of(s))
	if err != nil {
		return false
	}
	result, err = utils.Cast(result, cesql.BooleanType)
	holds, is := result.(bool)
	return err == nil && is && holds
}

// evaluate has a panic of the SDK's as an error: an expression of one Trigger must not end the others.
func (x expression) evaluate(e sdk.Event) (result any, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("evaluating it failed: %v", r)
		}
	}()
	return x.Evaluate(e)
}

// parsing is one at a time: the tables that the parser fills as it goes are of the whole process.
var parsing sync.Mutex

// parse reads one expression. The SDK's own parser does not say where an error is and goes on after characters that it does
// not know; so its grammar reads the text first, with a listener that keeps what it finds.
func parse(text string) (_ expression, failed *Error) {
	switch {
	case len(text) > MaxExpression:
		return expression{}, &Error{Text: fmt.Sprintf("is longer than %d bytes", MaxExpression)}
	case !utf8.ValidString(text):
		return expression{}, &Error{Text: "is not UTF-8"}
	}
	if at := tooDeep(text); at > 0 {
		return expression{}, &Error{Position: at, Text: fmt.Sprintf("more than %d brackets inside each other", maxBrackets)}
	}
	parsing.Lock()
	defer parsing.Unlock()
	defer func() {
		if r := recover(); r != nil {
			failed = &Error{Text: fmt.Sprintf("cannot be parsed: %v", r)}
		}
	}()
	found := &listener{lines: strings.Split(text, "\n")}
	lexer := gen.NewCESQLParserLexer(parser.NewCaseChangingStream(antlr.NewInputStream(text), true))
	lexer.RemoveErrorListeners()
	lexer.AddErrorListener(found)
	p := gen.NewCESQLParserParser(antlr.NewCommonTokenStream(lexer, antlr.TokenDefaultChannel))
	p.RemoveErrorListeners()
	p.AddErrorListener(found)
	p.Cesql()
	if found.first != nil {
		return expression{}, found.first
	}
	parsed, err := parser.Parse(text)
	if err != nil {
		return expression{}, &Error{Text: err.Error()}
	}
	return expression{parsed}, nil
}

// listener keeps the first error.
type listener struct {
	antlr.DefaultErrorListener
	lines []string
	first *Error
}

// SyntaxError is told of an error: line from 1, column in characters from 0.
func (l *listener) SyntaxError(_ antlr.Recognizer, _ any, line, column int, message string, _ antlr.RecognitionException) {
	if l.first != nil {
		return
	}
	position := column + 1
	for _, before := range l.lines[:min(line-1, len(l.lines))] {
		position += utf8.RuneCountInString(before) + 1
	}
	l.first = &Error{Position: position, Text: message}
}

// tooDeep is the position of a bracket that is too deep, in characters from 1; 0: none. Brackets
// in strings count too: that is no loss, and simple.
func tooDeep(text string) int {
	depth, at := 0, 0
	for _, c := range text {
		at++
		switch c {
		case '(':
			if depth++; depth > maxBrackets {
				return at
			}
		case ')':
			depth--
		}
	}
	return 0
}
