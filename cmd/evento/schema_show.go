package main

import (
	"encoding/json"
	"fmt"
	"net/url"
	"strings"

	"github.com/spf13/cobra"
)

// schemaType is one registered type with its schema.
type schemaType struct {
	schemaItem
	Versions []string `json:"versions"`
	Schema   struct {
		Doc    string `json:"doc"`
		Fields []struct {
			Name    string          `json:"name"`
			Type    json.RawMessage `json:"type"`
			Default json.RawMessage `json:"default"`
			Doc     string          `json:"doc"`
		} `json:"fields"`
	} `json:"schema"`
}

func schemaShowCommand(g *globals) *cobra.Command {
	return &cobra.Command{
		Use:   "show <type>",
		Short: "Show the fields of a registered type",
		Example: `  evento schema show CheckingAccount.WithdrawCash
  evento schema show WithdrawCash
  evento schema show WithdrawCash -o json | jq .schema`,
		Args:              exactly("the type, for example: evento schema show WithdrawCash", 1),
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := g.client()
			if err != nil {
				return err
			}
			name := args[0]
			if !strings.Contains(name, ".") {
				var types schemaList
				if _, err := c.get(cmd.Context(), "/v1/schemas", nil, &types); err != nil {
					return err
				}
				if name, err = fullName(types.Types, name); err != nil {
					return err
				}
			}
			var t schemaType
			a, err := c.get(cmd.Context(), "/v1/schemas/"+url.PathEscape(name), nil, &t)
			out := cmd.OutOrStdout()
			switch {
			case err != nil:
				return err
			case g.json():
				return writeJSON(out, a.body)
			}
			fmt.Fprintf(out, "%s  %s of %s  %s (%d versions)\n", t.Name, t.Kind, t.Aggregate, t.Fingerprint, len(t.Versions))
			if t.Schema.Doc != "" {
				fmt.Fprintln(out, t.Schema.Doc)
			}
			rows := table(out)
			fmt.Fprintln(rows, "FIELD\tTYPE\tDEFAULT\tWHAT")
			for _, f := range t.Schema.Fields {
				fmt.Fprintf(rows, "%s\t%s\t%s\t%s\n", f.Name, short(compact(f.Type), 200), dash(compact(f.Default)), dash(f.Doc))
			}
			return rows.Flush()
		},
	}
}

// fullName finds the type of this name in any aggregate.
func fullName(types []schemaItem, name string) (string, error) {
	var found []string
	for _, t := range types {
		if strings.HasSuffix(t.Name, "."+name) {
			found = append(found, t.Name)
		}
	}
	switch len(found) {
	case 0:
		return "", &coded{code: exitNotFound, err: fmt.Errorf("no registered type is named %q; see: evento schema list", name)}
	case 1:
		return found[0], nil
	}
	return "", usagef("%q is a type of several aggregates: give one of %s", name, strings.Join(found, ", "))
}
