package virga.runtime;

import java.io.File;
import java.io.IOException;
import java.net.MalformedURLException;
import java.net.URL;
import java.net.URLClassLoader;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import java.util.zip.ZipEntry;
import java.util.zip.ZipFile;

/**
 * Loads the function's code: the classes of the package, `lib/*.jar`, then `/opt/java/lib/*.jar`, as Lambda does.
 *
 * <p>It does not see the client. What the two share is Lambda's interfaces, and whose those are depends on the
 * package: if it carries them they are the package's, and else the client's stand-ins, whose bytes this loader defines
 * itself. The client's class that implements them is defined here too.
 */
final class FunctionLoader extends URLClassLoader {
    private static final String LAMBDA = "com.amazonaws.services.lambda.runtime.";
    private static final String GLUE = "virga.glue.";

    static {
        registerAsParallelCapable();
    }

    FunctionLoader(List<URL> path) {
        super(path.toArray(new URL[0]), ClassLoader.getPlatformClassLoader());
    }

    /** Where the code of a package is. */
    static List<URL> path(File task, File layers) {
        List<URL> path = new ArrayList<>();
        path.add(url(task));
        addJars(path, new File(task, "lib"));
        addJars(path, new File(layers, "java/lib"));
        return path;
    }

    private static void addJars(List<URL> path, File folder) {
        String[] names = folder.list();
        if (names != null) {
            Arrays.sort(names);
            for (String name : names) {
                if (name.endsWith(".jar")) {
                    path.add(url(new File(folder, name)));
                }
            }
        }
    }

    private static URL url(File file) {
        try {
            return file.toURI().toURL();
        } catch (MalformedURLException impossible) {
            throw new IllegalArgumentException(impossible);
        }
    }

    @Override
    protected Class<?> findClass(String name) throws ClassNotFoundException {
        if (name.startsWith(GLUE)) {
            return ours(name, null);
        }
        try {
            return super.findClass(name);
        } catch (ClassNotFoundException absent) {
            if (name.startsWith(LAMBDA)) {
                return ours(name, absent);
            }
            throw absent;
        }
    }

    /** Defines a class of the client's jar. */
    private Class<?> ours(String name, ClassNotFoundException absent) throws ClassNotFoundException {
        // The client is started with `-jar`: its class path is its jar.
        try (ZipFile jar = new ZipFile(System.getProperty("java.class.path"))) {
            ZipEntry entry = jar.getEntry(name.replace('.', '/') + ".class");
            if (entry == null) {
                throw absent == null ? new ClassNotFoundException(name) : absent;
            }
            byte[] bytes = jar.getInputStream(entry).readAllBytes();
            return defineClass(name, bytes, 0, bytes.length);
        } catch (IOException unreadable) {
            throw new ClassNotFoundException(name, unreadable);
        }
    }
}
