// Command hello is a web server of the simplest kind, to try Ebb with: it greets
// $TARGET, says which revision answered, and listens on $PORT.
package main
