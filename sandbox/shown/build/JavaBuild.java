import com.sun.source.util.JavacTask;
import com.sun.source.util.TaskEvent;
import com.sun.source.util.TaskListener;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Paths;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Set;
import javax.lang.model.SourceVersion;
import javax.lang.model.element.Element;
import javax.lang.model.element.ExecutableElement;
import javax.lang.model.element.Modifier;
import javax.lang.model.element.TypeElement;
import javax.lang.model.type.TypeKind;
import javax.lang.model.util.ElementFilter;
import javax.tools.ForwardingJavaFileObject;
import javax.tools.JavaCompiler;
import javax.tools.JavaFileObject;
import javax.tools.StandardJavaFileManager;
import javax.tools.ToolProvider;

/**
 * Compiles as javac does, but a public class may stand in a file of any name, and writes the class that
 * `java` is to start to a file. `java @FILE` then starts it: finding it costs a run nothing.
 *
 * <p>Usage: JavaBuild FILE MAIN_SOURCE SOURCES... OPTIONS_OF_JAVAC... The compiled form beside this file is
 * committed, since a machine without a JDK installs occd too; a test compares them.
 */
public class JavaBuild {
    /** A class that may be the one to start. Of those that `java` can start, the first by these rules is taken. */
    private static final class Candidate implements Comparable<Candidate> {
        final String name;
        final boolean[] better;

        Candidate(String name, boolean... better) {
            this.name = name;
            this.better = better;
        }

        @Override
        public int compareTo(Candidate other) {
            for (int i = 0; i < better.length; i++)
                if (better[i] != other.better[i]) return better[i] ? -1 : 1;
            return 0;
        }
    }

    public static void main(String[] args) throws IOException {
        JavaCompiler javac = ToolProvider.getSystemJavaCompiler();
        StandardJavaFileManager files = javac.getStandardFileManager(null, null, null);
        String mainSource = args[1];
        Set<JavaFileObject> sources = new LinkedHashSet<>();
        int next = 2;
        for (; next < args.length && !args[next].startsWith("-"); next++)
            for (JavaFileObject file : files.getJavaFileObjects(args[next])) sources.add(new AnyName(file));
        List<String> options = new ArrayList<>();
        for (; next < args.length; next++)
            if (!args[next].startsWith("-J")) options.add(args[next]); // those are for javac's own launcher

        JavacTask task;
        try {
            task = (JavacTask) javac.getTask(null, files, null, options, null, sources);
        } catch (IllegalArgumentException error) {
            System.err.println(error.getMessage());
            System.exit(2);
            return;
        }
        List<Candidate> candidates = new ArrayList<>();
        task.addTaskListener(
                new TaskListener() {
                    @Override
                    public void started(TaskEvent event) {}

                    @Override
                    public void finished(TaskEvent event) {
                        if (event.getKind() == TaskEvent.Kind.ANALYZE && event.getTypeElement() != null)
                            look(event.getTypeElement(), event.getSourceFile().getName().equals(mainSource));
                    }

                    private void look(TypeElement type, boolean inMainSource) {
                        boolean outer = !type.getEnclosingElement().getKind().isClass();
                        boolean isPublic = type.getModifiers().contains(Modifier.PUBLIC);
                        String name = task.getElements().getBinaryName(type).toString();
                        int start = start(type);
                        candidates.add(
                                new Candidate(name, start == 2, start == 1, inMainSource, outer && isPublic, outer));
                        for (TypeElement inner : ElementFilter.typesIn(type.getEnclosedElements()))
                            look(inner, inMainSource);
                    }
                });
        if (!task.call()) System.exit(1);
        if (candidates.isEmpty()) {
            System.err.println(mainSource + ": error: there is no class that could be started");
            System.exit(1);
        }
        // Without any main method it is still the JVM that says so: it does that well.
        Files.write(Paths.get(args[0]), Collections.min(candidates).name.getBytes("UTF-8"));
    }

    /** 2: `java` of any age starts it. 1: only one that takes a main of the instance (Java 25). 0: none does. */
    private static int start(TypeElement type) {
        int best = 0;
        for (ExecutableElement method : ElementFilter.methodsIn(type.getEnclosedElements())) {
            if (!method.getSimpleName().contentEquals("main") || method.getReturnType().getKind() != TypeKind.VOID)
                continue;
            List<String> parameters = new ArrayList<>();
            for (Element each : method.getParameters()) parameters.add(each.asType().toString());
            boolean words = parameters.equals(Collections.singletonList("java.lang.String[]"));
            Set<Modifier> modifiers = method.getModifiers();
            if (words && modifiers.contains(Modifier.PUBLIC) && modifiers.contains(Modifier.STATIC)) return 2;
            boolean young = SourceVersion.latest().ordinal() >= 25 && !modifiers.contains(Modifier.PRIVATE);
            if (young && (words || parameters.isEmpty()) && !modifiers.contains(Modifier.ABSTRACT)) best = 1;
        }
        return best;
    }

    /** A source file in which a public class may have a name of its own. */
    private static final class AnyName extends ForwardingJavaFileObject<JavaFileObject> {
        AnyName(JavaFileObject file) {
            super(file);
        }

        @Override
        public boolean isNameCompatible(String simpleName, Kind kind) {
            if (simpleName.endsWith("-info")) return super.isNameCompatible(simpleName, kind); // of packages, modules
            return kind == Kind.SOURCE;
        }
    }
}
