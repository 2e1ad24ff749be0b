package main

import (
	"reflect"
	"strings"

	"parkbridge/internal/config"
)

// configKeys lists every key a config may have.
func configKeys() []string {
	var keys []string
	seen := map[reflect.Type]bool{}
	var walk func(t reflect.Type)
	walk = func(t reflect.Type) {
		switch t.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Map:
			walk(t.Elem())
		case reflect.Struct:
			if seen[t] {
				return
			}
			seen[t] = true
			for field := range t.Fields() {
				tag, ok := field.Tag.Lookup("yaml")
				if !ok {
					continue
				}
				if name, _, _ := strings.Cut(tag, ","); name != "" {
					keys = append(keys, name)
				}
				walk(field.Type)
			}
		default: // a scalar
		}
	}
	walk(reflect.TypeFor[config.Config]())
	return keys
}
