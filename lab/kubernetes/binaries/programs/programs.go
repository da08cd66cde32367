// Package programs makes one binary out of several commands: the first argument, or the name of a link to the binary, chooses one.
package programs

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"
	_ "k8s.io/component-base/metrics/prometheus/clientgo"
	_ "k8s.io/component-base/metrics/prometheus/version"
)

// Command makes one of Kubernetes' commands. Only the chosen one is made: they share flags and metrics of their process.
type Command func() *cobra.Command

// Run starts the command that the binary's name or its first argument names. It returns only where no command has that name.
func Run(commands map[string]Command) {
	if start, ok := commands[filepath.Base(os.Args[0])]; ok {
		os.Exit(cli.Run(start()))
	}
	if len(os.Args) > 1 {
		if start, ok := commands[os.Args[1]]; ok {
			os.Args = os.Args[1:]
			os.Exit(cli.Run(start()))
		}
	}
	fmt.Fprintln(os.Stderr, "usage:", filepath.Base(os.Args[0]), strings.Join(slices.Sorted(maps.Keys(commands)), "|"), "ARGUMENT...")
	os.Exit(2)
}
