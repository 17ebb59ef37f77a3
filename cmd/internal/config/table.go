package config

import "io"

// WriteTable prints the settings as a Markdown table. The manual's and the
// chart's tables are this output.
func WriteTable(w io.Writer) error {
	return render(w, "| variable | default | meaning |\n| --- | --- | --- |\n"+
		"{{range .}}| `{{usage_key .}}` | {{with usage_default .}}`{{.}}`{{else}}–{{end}} | {{usage_description .}} |\n{{end}}")
}

// WriteList prints the settings for a terminal.
func WriteList(w io.Writer) error {
	return render(w, "{{range .}}  {{usage_key .}}{{with usage_default .}} (default {{.}}){{end}}\n      {{usage_description .}}\n{{end}}")
}
