// Command ebb-shim is the process over each container of an embedded node; see
// package shim. Only ebb-node starts it.
package main

import (
	"fmt"
	"os"

	"ebb.dev/ebb/local/shim"
)

func main() {
	switch {
	case len(os.Args) == 4 && os.Args[1] == "exec":
		os.Exit(shim.Enter(os.Args[2], os.Args[3]))
	case len(os.Args) == 2 && os.Args[1] == "inside":
		os.Exit(shim.Inside())
	case len(os.Args) != 3:
		fmt.Fprintln(os.Stderr, "usage: ebb-shim run|init DIR, exec PID START, inside (ebb-node starts it)")
		os.Exit(2)
	}
	switch os.Args[1] {
	case "run":
		if err := shim.Run(os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, "ebb-shim:", err)
			os.Exit(1)
		}
	case "init":
		shim.Init(os.Args[2])
	default:
		fmt.Fprintln(os.Stderr, "ebb-shim: unknown command", os.Args[1])
		os.Exit(2)
	}
}
