package config

import (
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"sync"
	"text/template"
	"time"

	"github.com/kelseyhightower/envconfig"
)

// Setting is one entry of the manual.
type Setting struct {
	Variable string       // SIDECAR_…
	Default  string       // as it would be set; empty for none
	Meaning  string       // one or more sentences, its range included
	Type     reflect.Type // of the field of Settings
	Choices  []string     // all that it can be; nil for anything of its type
}

// Manual is every setting, in the order of Settings.
func Manual() []Setting {
	fields := reflect.TypeFor[Settings]()
	manual := make([]Setting, fields.NumField())
	for i, variable := range Variables() {
		field := fields.Field(i)
		manual[i] = Setting{
			Variable: variable, Default: field.Tag.Get("default"), Type: field.Type,
			Meaning: field.Tag.Get("desc") + rangeOf(field).sentence(),
		}
		if choices := strings.Fields(field.Tag.Get("oneof")); len(choices) > 0 {
			manual[i].Choices = choices
		}
	}
	return manual
}

// Variables are the names of all settings, in the order of the fields of Settings.
func Variables() []string { return slices.Clone(variables()) }

// variables are made once: envconfig splits the names of fields with regular
// expressions.
var variables = sync.OnceValue(func() []string {
	var b strings.Builder
	if err := envconfig.Usagef(Prefix, new(Settings), &b, "{{range .}}{{usage_key .}} {{end}}"); err != nil {
		return nil // a unit test keeps this from happening
	}
	return strings.Fields(b.String())
})

// bounds are the least and the greatest value of a number or a duration, as the tags
// write them. Empty: there is none.
type bounds struct{ least, most string }

func rangeOf(field reflect.StructField) bounds {
	return bounds{field.Tag.Get("min"), field.Tag.Get("max")}
}

// sentence is what the manual says.
func (b bounds) sentence() string {
	if b.most == "" { // that an age can't be negative goes without saying
		return ""
	}
	return fmt.Sprintf(" From %s to %s.", b.least, b.most)
}

// fault says how a value is out of bounds, or nothing. The tags are checked by a test.
func (b bounds) fault(v reflect.Value) string {
	limit := func(text string) int64 {
		if v.Type() == reflect.TypeFor[time.Duration]() {
			d, _ := time.ParseDuration(text)
			return int64(d)
		}
		var n int64
		_, _ = fmt.Sscan(text, &n)
		return n
	}
	switch {
	case b.most != "" && (v.Int() < limit(b.least) || v.Int() > limit(b.most)):
		return fmt.Sprintf("must be from %s to %s", b.least, b.most)
	case b.least != "" && v.Int() < limit(b.least):
		return "must not be negative"
	}
	return ""
}

// WriteTable prints the settings as a Markdown table. The manual's and the
// chart's tables are this output.
func WriteTable(w io.Writer) error {
	return write(w, "| variable | default | meaning |\n| --- | --- | --- |\n"+
		"{{range .}}| `{{.Variable}}` | {{with .Default}}`{{.}}`{{else}}–{{end}} | {{.Meaning}} |\n{{end}}")
}

// WriteList prints the settings for a terminal.
func WriteList(w io.Writer) error {
	return write(w, "{{range .}}  {{.Variable}}{{with .Default}} (default {{.}}){{end}}\n      {{.Meaning}}\n{{end}}")
}

func write(w io.Writer, format string) error {
	t, err := template.New("manual").Parse(format)
	if err != nil {
		return err
	}
	return t.Execute(w, Manual())
}
