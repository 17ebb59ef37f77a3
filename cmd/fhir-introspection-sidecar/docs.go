package main

import "io"

// writeConfigTable prints the settings as a Markdown table. The manual's and the
// chart's tables are this output.
func writeConfigTable(w io.Writer) error {
	return render(w, "| variable | default | meaning |\n| --- | --- | --- |\n"+
		"{{range .}}| `{{usage_key .}}` | {{with usage_default .}}`{{.}}`{{else}}–{{end}} | {{usage_description .}} |\n{{end}}")
}

// writeConfigList prints the settings for a terminal.
func writeConfigList(w io.Writer) error {
	return render(w, "{{range .}}  {{usage_key .}}{{with usage_default .}} (default {{.}}){{end}}\n      {{usage_description .}}\n{{end}}")
}
