package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/useargus/argus"
)

func newCmdCompletion(f *factory) *cobra.Command {
	shells := []string{"bash", "zsh", "fish", "powershell"}
	return &cobra.Command{
		Use:   "completion <shell>",
		Short: "Print the completion script of a shell",
		Long: `Prints a script that completes commands and flags, and the values of the server in use: routes, actors, tenants,
workers, tokens. (Each such completion is a call, and audited as one.) The scripts need nothing but the shell.

Put the line of your shell into its startup file: ~/.bashrc, ~/.zshrc or ~/.config/fish/config.fish.

  bash         source <(argusctl completion bash)
  zsh          source <(argusctl completion zsh)
  fish         argusctl completion fish | source
  powershell   argusctl completion powershell | Out-String | Invoke-Expression`,
		Example:   "  source <(argusctl completion bash)",
		Args:      exactly("shell"),
		ValidArgs: shells,
		RunE: func(cmd *cobra.Command, args []string) error {
			root, out := cmd.Root(), f.io.out
			switch args[0] {
			case "bash":
				if _, err := out.WriteString(bashWords); err != nil {
					return err
				}
				return root.GenBashCompletionV2(out, true)
			case "zsh":
				var script bytes.Buffer
				if err := root.GenZshCompletion(&script); err != nil {
					return err
				}
				first, rest, _ := bytes.Cut(script.Bytes(), []byte("\n")) // #compdef has to be the first line
				_, err := fmt.Fprintf(out, "%s\n%s%s", first, zshCompinit, rest)
				return err
			case "fish":
				return root.GenFishCompletion(out, true)
			case "powershell":
				return root.GenPowerShellCompletionWithDesc(out)
			}
			return usageErrorf("There is no completion for %q, only for %s.", args[0], strings.Join(shells, ", "))
		},
	}
}

// bashWords stands in for the one function of bash-completion that cobra's script needs, where that package is missing:
// it finds the words of the line. Bash splits them at = and :, which stand inside words here.
const bashWords = `# Without the package bash-completion this stands in for what the script takes of it.
if ! declare -F _get_comp_words_by_ref >/dev/null 2>&1; then
    _get_comp_words_by_ref()
    {
        local i n=0 word line=$COMP_LINE
        words=() cword=0
        for ((i = 0; i < ${#COMP_WORDS[@]}; i++)); do
            word=${COMP_WORDS[i]}
            if ((n > 0)) && [[ $line != [[:space:]]* && ($word == [=:]* || ${words[n-1]} == *[=:]) ]]; then
                words[n-1]+=$word
            else
                words[n]=$word
                n=$((n + 1))
            fi
            line=${line#"${line%%[![:space:]]*}"}
            line=${line#"$word"}
            if ((i == COMP_CWORD)); then
                cword=$((n - 1))
            fi
        done
        cur=${words[cword]}
        prev=
        if ((cword > 0)); then
            prev=${words[cword-1]}
        fi
    }
fi

`

// zshCompinit loads zsh's completion where a startup file has not: without it there is no compdef.
const zshCompinit = `if ! whence compdef >/dev/null; then
    autoload -Uz compinit
    compinit -i
fi
`

type completer = func(cmd *cobra.Command, args []string, toComplete string) ([]string, cobra.ShellCompDirective)

// fixed completes to one of the given words.
func fixed(words ...string) completer {
	return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return words, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
	}
}

func fixedScopes() completer {
	var words []string
	for _, s := range argus.AllScopes() {
		words = append(words, string(s))
	}
	return fixed(words...)
}

// filterCompletion completes a filter's values: fixed ones, or those that occurred in the last day.
func (f *factory) filterCompletion(name argus.FilterName) completer {
	switch name {
	case argus.FilterActorKind:
		return fixed(textsOf(argus.ActorKinds())...)
	case argus.FilterOutcome:
		return fixed(string(argus.Completed), string(argus.Interrupted))
	case argus.FilterMethod:
		return fixed(http.MethodGet, http.MethodPost, http.MethodDelete, http.MethodPut, http.MethodPatch)
	case argus.FilterStatus:
		return fixed("2xx", "4xx", "5xx", ">=400", "200", "401", "403", "404", "409", "422", "429", "500", "503")
	case argus.FilterTenant:
		return f.completeTenants
	case argus.FilterScope:
		return fixed(append(textsOf(argus.AllScopes()), argus.ScopeAny, argus.ScopeNone)...)
	case argus.FilterActor, argus.FilterRoute, argus.FilterClient, argus.FilterPAT, argus.FilterBreakGlass,
		argus.FilterService, argus.FilterRelease, argus.FilterErrorCode, argus.FilterAgent:
		return f.completeFacet(name)
	}
	return cobra.NoFileCompletions
}

// plainUsages takes the backquotes out of the texts of flags, which help reads and a shell would show.
func plainUsages(cmd *cobra.Command) {
	plain := func(flag *pflag.Flag) { flag.Usage = strings.ReplaceAll(flag.Usage, "`", "") }
	cmd.Flags().VisitAll(plain)
	cmd.PersistentFlags().VisitAll(plain)
	for _, c := range cmd.Commands() {
		plainUsages(c)
	}
}

// completionTimeout is how long a person waits for the Tab key.
const completionTimeout = time.Second

// live asks the server for words to complete with. Any failure gives none: the shell's line is no place for
// errors.
func (f *factory) live(ask func(context.Context, *client) ([]string, error)) ([]string, cobra.ShellCompDirective) {
	directive := cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveKeepOrder
	ctx, cancel := context.WithTimeout(context.Background(), completionTimeout)
	defer cancel()
	c, err := f.client()
	if err != nil {
		return nil, directive
	}
	c.tries = 1
	words, err := ask(ctx, c)
	if err != nil {
		return nil, directive
	}
	return words, directive
}

// word is a completion with its description.
func word(value, description string) string {
	if description == "" {
		return harmless(value)
	}
	return harmless(value) + "\t" + harmless(description)
}

func (f *factory) completeFacet(name argus.FilterName) completer {
	return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return f.live(func(ctx context.Context, c *client) ([]string, error) {
			answer, err := askFacets(ctx, c, url.Values{"since": {"24h"}}, name)
			var words []string
			for _, v := range answer.Fields[name] {
				about := argus.Counted(v.Count, "call")
				if v.Name != nil {
					about = *v.Name + ", " + about
				}
				words = append(words, word(v.Value, about))
			}
			return words, err
		})
	}
}

func (f *factory) completeTenants(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return f.live(func(ctx context.Context, c *client) ([]string, error) {
		tenants, err := list[tenant](ctx, c, "/v1/tenants", nil, "tenants")
		var words []string
		for _, t := range tenants {
			about := t.value.Name
			if t.value.Armed {
				about = strings.TrimSpace(about + " (armed)")
			}
			words = append(words, word(t.value.ID, about))
		}
		return words, err
	})
}

// completeWorkers offers the workers that the verb can be done to.
func (f *factory) completeWorkers(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	from := map[string][]string{"stop": {"running"}, "resume": {"stopped"}}[cmd.Name()]
	return f.live(func(ctx context.Context, c *client) ([]string, error) {
		workers, err := list[worker](ctx, c, "/compute/ops/workers", nil, "workers")
		var words []string
		for _, w := range workers {
			if from == nil || slices.Contains(from, w.value.State) {
				words = append(words, word(w.value.ID, fmt.Sprintf("%s %s %s", w.value.Provider, w.value.State, w.value.Reason)))
			}
		}
		return words, err
	})
}

// completeProviders offers the providers of the workers there are, and the one that every development server has.
func (f *factory) completeProviders(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return f.live(func(ctx context.Context, c *client) ([]string, error) {
		words := []string{"local"}
		workers, _ := list[worker](ctx, c, "/compute/ops/workers", nil, "workers")
		for _, w := range workers {
			if !slices.Contains(words, w.value.Provider) {
				words = append(words, word(w.value.Provider, ""))
			}
		}
		return words, nil
	})
}

func (f *factory) completeTokens(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return f.live(func(ctx context.Context, c *client) ([]string, error) {
		tokens, err := list[token](ctx, c, "/v1/tokens", url.Values{"state": {"live"}}, "tokens")
		var words []string
		for _, t := range tokens {
			words = append(words, word(t.value.ID, t.value.Name))
		}
		return words, err
	})
}

// completeOwners offers those who have live tokens.
func (f *factory) completeOwners(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return f.live(func(ctx context.Context, c *client) ([]string, error) {
		var words []string
		seen := map[string]bool{}
		query := url.Values{"owner": {"all"}, "state": {"live"}, "limit": {strconv.Itoa(argus.MaxLimit)}}
		err := eachToken(ctx, c, query, func(it item[token], names map[string]string) error {
			if id := it.value.ActorID; !seen[id] {
				seen[id] = true
				words = append(words, word(id, names[id]))
			}
			return nil
		})
		return words, err
	})
}

func (f *factory) completeProfiles(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	store, err := f.profiles()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var words []string
	for name, p := range store.Profiles {
		words = append(words, word(name, p.URL))
	}
	slices.Sort(words)
	return words, cobra.ShellCompDirectiveNoFileComp
}
