package millrace;

import java.io.IOException;
import java.nio.file.Files;
import org.apache.hadoop.fs.LocalFileSystem;
import org.apache.hadoop.fs.Path;
import org.apache.hadoop.fs.RawLocalFileSystem;
import org.apache.hadoop.fs.permission.FsPermission;

/** Hadoop's local files, with permissions set by Java: Hadoop without its C library starts chmod for each file. */
public class LocalFiles extends LocalFileSystem {
  public LocalFiles() {
    super(new RawLocalFiles());
  }

  public static class RawLocalFiles extends RawLocalFileSystem {
    public void setPermission(Path path, FsPermission permission) throws IOException {
      java.nio.file.Path file = pathToFile(path).toPath();
      // As chmod does, leave the bit by which new files are of their folder's group.
      int groupBit = ((Integer) Files.getAttribute(file, "unix:mode")).intValue() & 02000;
      Files.setAttribute(file, "unix:mode", Integer.valueOf(groupBit | permission.toShort()));
    }
  }
}
