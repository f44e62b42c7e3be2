package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/evento-oss/evento/internal/generate"
)

// generateCommand makes Go of a schema file.
func generateCommand() *cobra.Command {
	var schema, out, name string
	c := &cobra.Command{
		Use:   "generate --schema FILE --out DIR",
		Short: "Make Go types and interfaces of an aggregate's schema file",
		Long: `Make Go of an aggregate's schema file (.avsc): its records, an interface with
one method for each command, one with one method for each event, and what serves
them. Generated files of an earlier run are replaced; others are left alone.`,
		Example: "  evento generate --schema schemas/CheckingAccount.avsc --out checking/gen",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if name == "" {
				absolute, err := filepath.Abs(out)
				if err != nil {
					return err
				}
				name = filepath.Base(absolute)
			}
			text, err := os.ReadFile(schema)
			if err != nil {
				return err
			}
			files, err := generate.Aggregate(text, generate.Options{File: schema, Package: name})
			if err != nil {
				return err
			}
			if err := generate.Write(out, files); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s: %d files, package %s\n", out, len(files), name)
			return err
		},
	}
	c.Flags().StringVar(&schema, "schema", "", "the aggregate's schema file")
	c.Flags().StringVar(&out, "out", "", "folder of the generated package")
	c.Flags().StringVar(&name, "package", "", "name of the generated package (default: the folder's)")
	for _, required := range []string{"schema", "out"} {
		if err := c.MarkFlagRequired(required); err != nil {
			panic(err) // the flag is defined above
		}
	}
	return c
}
