package programs

import (
	"os"

	"github.com/spf13/cobra"
)

// Plain makes a command of a program that reads its arguments itself.
func Plain(name string, start func(arguments []string)) Command {
	return func() *cobra.Command {
		return &cobra.Command{
			Use:                name,
			DisableFlagParsing: true,
			Run:                func(*cobra.Command, []string) { start(os.Args) },
		}
	}
}
