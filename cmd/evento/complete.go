package main

import (
	"context"
	"slices"
	"time"

	"github.com/spf13/cobra"
)

// completeFlag has a shell complete a flag's value with these words.
func completeFlag(cmd *cobra.Command, name string, words ...string) {
	if err := cmd.RegisterFlagCompletionFunc(name, cobra.FixedCompletions(words, cobra.ShellCompDirectiveNoFileComp)); err != nil {
		panic(err) // the flag is not there, or has a completion: a mistake in this program
	}
}

// completeLimit is how long a shell waits for a gateway that may not be there.
const completeLimit = 2 * time.Second

// typesToSend returns the types of commands, or of events, that the gateway knows.
// Without a gateway there are none to offer.
func (g *globals) typesToSend(ctx context.Context, events bool) []string {
	c, err := g.client()
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, completeLimit)
	defer cancel()
	var list schemaList
	if _, err := c.get(ctx, "/v1/schemas", nil, &list); err != nil {
		return nil
	}
	kinds := []string{"command"}
	if events {
		kinds = []string{"event", "failure"}
	}
	var names []string
	for _, t := range list.Types {
		if slices.Contains(kinds, t.Kind) {
			names = append(names, t.Name)
		}
	}
	return names
}
