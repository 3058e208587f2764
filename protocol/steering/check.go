package steering

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
)

// Check returns what is wrong with a document beyond its form: names that
// clash or lead nowhere, cycles, files and steps that cannot work. Parse has
// already called it for documents that come from a file.
func (d *Document) Check() Problems {
	r := &report{source: NewSource("", nil), spelling: JSON}
	checker{r, d}.check()
	return r.finish()
}

// checker walks a document.
type checker struct {
	*report
	doc *Document
}

func (c checker) check() {
	c.version()
	c.tasks()
	for data := range allData(c.doc) {
		c.data(data)
	}
	c.files("the header", c.doc.Steering.Resources, nil)
	for i := range c.doc.Tasks {
		c.task(&c.doc.Tasks[i])
	}
}

// version refuses a format that was not known when this was written.
func (c checker) version() {
	number, err := strconv.ParseFloat(c.doc.Version, 64)
	switch {
	case c.doc.Version == "":
	case err != nil:
		c.errorf(c.doc.Position, "version %q is no number", cut(c.doc.Version, 40))
	case number >= 4:
		c.errorf(c.doc.Position, "steering format %s is newer than this program, which knows 3.2", cut(c.doc.Version, 40))
	}
}

// tasks checks names and dependences.
func (c checker) tasks() {
	tasks := c.doc.Tasks
	if len(tasks) == 0 && !c.damaged[c.doc.Position] {
		c.errorf(c.doc.Position, "a dataset needs at least one task")
	}
	index := make(map[string]int, len(tasks))
	var names []string
	for i := range tasks {
		name := tasks[i].Name
		if first, twice := index[name]; twice && name != "" {
			c.errorf(tasks[i].Position, "a second task %q; the first is on line %d", cut(name, 60), tasks[first].Position.Line)
			continue
		}
		index[name] = i
		names = append(names, name)
	}
	parents := make([][]int, len(tasks))
	for i := range tasks {
		parents[i] = make([]int, len(tasks[i].Depends))
		seen := map[int]bool{}
		for j, dependence := range tasks[i].Depends {
			parent, ok := index[dependence.Name]
			if !ok {
				parent, ok = parseIndex(dependence.Name, len(tasks))
			}
			parents[i][j] = parent
			switch {
			case !ok && c.full():
				parents[i][j] = -1
				c.dropped++
			case !ok:
				parents[i][j] = -1
				c.add(dependence.Position, SeverityError, quoteWord(nearest(dependence.Name, names)),
					fmt.Sprintf("task %q depends on %q, which is no task", cut(tasks[i].Name, 60), cut(dependence.Name, 60)))
			case parent == i:
				parents[i][j] = -1
				c.errorf(dependence.Position, "task %q depends on itself", cut(tasks[i].Name, 60))
			case seen[parent]:
				parents[i][j] = -1
				c.warnf(dependence.Position, "task %q names its parent %q twice", cut(tasks[i].Name, 60), cut(tasks[parent].Name, 60))
			}
			seen[parent] = true
		}
	}
	c.cycles(parents)
}

// cycles reports each dependence that closes a circle.
func (c checker) cycles(parents [][]int) {
	const (
		fresh = iota
		open
		done
	)
	state := make([]uint8, len(parents))
	var path []int
	var visit func(task int)
	visit = func(task int) {
		state[task] = open
		path = append(path, task)
		for j, parent := range parents[task] {
			switch {
			case parent < 0:
			case state[parent] == fresh:
				visit(parent)
			case state[parent] == open && c.full():
				c.dropped++
			case state[parent] == open:
				c.errorf(c.doc.Tasks[task].Depends[j].Position, "tasks wait for each other: %s", c.circle(path, parent))
			}
		}
		path = path[:len(path)-1]
		state[task] = done
	}
	for task := range parents {
		if state[task] == fresh {
			visit(task)
		}
	}
}

// circle writes the part of path that starts at task, and task again.
func (c checker) circle(path []int, task int) string {
	for path[0] != task {
		path = path[1:]
	}
	var b strings.Builder
	for i, step := range path {
		if i == 8 {
			b.WriteString("… → ")
			break
		}
		b.WriteString(cut(c.doc.Tasks[step].Name, 40) + " → ")
	}
	return b.String() + cut(c.doc.Tasks[task].Name, 40)
}

// task checks what is inside one task.
func (c checker) task(task *Task) {
	where := fmt.Sprintf("task %q", cut(task.Name, 60))
	c.files(where, task.Resources, task.Projects)
	if len(task.Trays) == 0 && !c.damaged[task.Position] {
		c.warnf(task.Position, "%s has no trays: it will do nothing", where)
	}
	for i := range task.Trays {
		tray := &task.Trays[i]
		c.files(where, tray.Resources, tray.Projects)
		c.checkpoint(&tray.Checkpoint)
		if len(tray.Modules) == 0 && !c.damaged[tray.Position] {
			c.warnf(tray.Position, "a tray of %s has no modules: it will do nothing", where)
		}
		for j := range tray.Modules {
			module := &tray.Modules[j]
			c.files(where, module.Resources, module.Projects)
			if module.Src.Empty() && module.Class.Empty() && !c.damaged[module.Position] {
				c.errorf(module.Position, "a module of %s names neither a program nor a class", where)
			}
			c.predefined(module)
			c.checkpoint(&module.Checkpoint)
		}
	}
}

// files checks resources and projects.
func (c checker) files(where string, resources []Resource, projects []Project) {
	for i := range resources {
		resource := &resources[i]
		if resource.Remote.Empty() && !c.damaged[resource.Position] {
			c.errorf(resource.Position, "a resource of %s names no remote file", where)
		}
		c.checksum(resource.Checksum)
	}
	for i := range projects {
		if projects[i].Name.Empty() && projects[i].Class.Empty() && !c.damaged[projects[i].Position] {
			c.errorf(projects[i].Position, "a project of %s has neither a name nor a class", where)
		}
	}
}

// data checks one file that comes or goes.
func (c checker) data(data *Data) {
	switch {
	case c.damaged[data.Position]:
	case data.Remote.Empty() && data.Local.Empty():
		c.errorf(data.Position, "data names no file: neither remote nor local is given")
	case data.Type == DataPermanent && data.Remote.Empty():
		c.warnf(data.Position, "permanent data without a remote: the site or the dataset must say where it lies")
	}
	c.checksum(data.Checksum)
}

var checksumPattern = regexp.MustCompile(`^(sha256:[0-9a-fA-F]{64}|md5:[0-9a-fA-F]{32}|adler32:[0-9a-fA-F]{8})$`)

func (c checker) checksum(sum Expression) {
	if sum.Empty() || isExpression(sum.Text) || checksumPattern.MatchString(sum.Text) {
		return
	}
	c.errorf(sum.Position, "checksum %q: want sha256:, md5: or adler32: and 64, 32 or 8 hexadecimal digits", cut(sum.Text, 80))
}
