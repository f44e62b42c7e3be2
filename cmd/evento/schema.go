package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"
)

type (
	schemaList struct {
		Types []schemaItem `json:"types"`
	}
	schemaItem struct {
		Name        string `json:"name"`
		Aggregate   string `json:"aggregate"`
		Kind        string `json:"kind"`
		Fingerprint string `json:"fingerprint"`
	}
	// schemaAnswer is the answer to a schema file.
	schemaAnswer struct {
		New []schemaItem `json:"new"`
	}
)

func schemaCommand(g *globals) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "schema",
		Short: "List, show, check or register schemas",
		Long: `Schemas are Avro files (.avsc), one for each aggregate, registered in Kafka. A new
version must be compatible with all versions before it: check says what is wrong
with a file, and registers nothing.`,
		Example: `  evento schema list
  evento schema show WithdrawCash
  evento schema check CheckingAccount.avsc
  evento schema register schemas/`,
		RunE: subcommandNeeded,
		Args: cobra.ArbitraryArgs,
	}
	list := &cobra.Command{
		Use: "list", Short: "List the registered types", Args: exactly("no further words", 0),
		Example: `  evento schema list
  evento schema list -o json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := g.client()
			if err != nil {
				return err
			}
			var types schemaList
			a, err := c.get(cmd.Context(), "/v1/schemas", nil, &types)
			switch {
			case err != nil:
				return err
			case g.json():
				return writeJSON(cmd.OutOrStdout(), a.body)
			case len(types.Types) == 0:
				fmt.Fprintln(cmd.OutOrStdout(), "none; register yours with: evento schema register <folder>")
				return nil
			}
			t := table(cmd.OutOrStdout())
			fmt.Fprintln(t, "AGGREGATE\tKIND\tTYPE\tFINGERPRINT")
			for _, i := range types.Types {
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", i.Aggregate, i.Kind, i.Name, i.Fingerprint)
			}
			return t.Flush()
		},
	}
	check := &cobra.Command{
		Use: "check <file or folder>...", Short: "Check schema files against the rules and the registered versions",
		Example: `  evento schema check CheckingAccount.avsc`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return eachSchema(cmd.Context(), g, args, true, cmd.OutOrStdout())
		},
	}
	register := &cobra.Command{
		Use: "register <file or folder>...", Short: "Register schema files",
		Long:    "Registers schema files. Registering the same file again is safe and does nothing.",
		Example: `  evento schema register schemas/`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return eachSchema(cmd.Context(), g, args, false, cmd.OutOrStdout())
		},
	}
	cmd.AddCommand(list, schemaShowCommand(g), check, register)
	return cmd
}

// eachSchema checks or registers the files. It goes on after one that is
// refused, so that all problems are seen at once.
func eachSchema(ctx context.Context, g *globals, args []string, dryRun bool, out io.Writer) error {
	if len(args) == 0 {
		return usagef("give one or more .avsc files, or folders with them")
	}
	files, err := schemaFiles(args)
	if err != nil {
		return err
	}
	c, err := g.client()
	if err != nil {
		return err
	}
	var refused []error
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("schema file: %w", err)
		}
		r := request{method: http.MethodPost, path: "/v1/schemas", body: text}
		if dryRun {
			r.query = url.Values{"dry-run": {"true"}}
		}
		a, err := c.do(ctx, r)
		var p *problem
		if errors.As(err, &p) && p.Status < 500 {
			refused = append(refused, fmt.Errorf("%s: %w", file, p))
			continue
		} else if err != nil {
			return err
		}
		if g.json() {
			if err := writeJSON(out, a.body); err != nil {
				return err
			}
			continue
		}
		var answer schemaAnswer
		if err := a.decode(&answer); err != nil {
			return err
		}
		switch {
		case len(answer.New) == 0:
			fmt.Fprintf(out, "%s: nothing new, all its types are registered\n", file)
		case dryRun:
			fmt.Fprintf(out, "%s: good; it would register %d new type versions\n", file, len(answer.New))
		default:
			fmt.Fprintf(out, "%s: registered %d new type versions\n", file, len(answer.New))
		}
		for _, i := range answer.New {
			fmt.Fprintf(out, "  %s %s\n", i.Name, i.Fingerprint)
		}
	}
	return errors.Join(refused...)
}

// schemaFiles expands folders to the .avsc files in them, by name.
func schemaFiles(args []string) ([]string, error) {
	var files []string
	for _, arg := range args {
		info, err := os.Stat(arg)
		if err != nil {
			return nil, usagef("schema file: %w", err)
		}
		if !info.IsDir() {
			files = append(files, arg)
			continue
		}
		found, err := filepath.Glob(filepath.Join(arg, "*.avsc"))
		if err != nil {
			return nil, err
		}
		if len(found) == 0 {
			return nil, usagef("there is no .avsc file in %q", arg)
		}
		slices.Sort(found)
		files = append(files, found...)
	}
	return files, nil
}
