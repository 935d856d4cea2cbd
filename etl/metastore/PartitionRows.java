package millrace;

import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import org.apache.hadoop.fs.Path;

/** Partitions in the tables of an embedded metastore (schema of Hive 2.3), many of them in one transaction. */
public class PartitionRows {
  private static final String[] TABLES = {
    "DBS", "TBLS", "SDS", "COLUMNS_V2", "SERDES", "SERDE_PARAMS", "PARTITIONS", "PARTITION_KEY_VALS",
    "PARTITION_PARAMS", "SEQUENCE_TABLE"
  };

  private final Connection connection;
  private boolean isComplete = false;

  public PartitionRows(Connection connection) throws SQLException {
    this.connection = connection;
    connection.setAutoCommit(false);
    connection.setTransactionIsolation(Connection.TRANSACTION_READ_COMMITTED);
  }

  /** Whether Hive's client has made all tables: it makes each at its first use. */
  public synchronized boolean isComplete() throws SQLException {
    for (int i = 0; i < TABLES.length && !isComplete; i++) {
      try {
        connection.prepareStatement("select 1 from " + TABLES[i] + " where 1 = 0").close();
      } catch (SQLException error) {
        connection.rollback();
        return false;
      }
    }
    connection.commit();
    isComplete = true;
    return true;
  }

  /** Lines "table, tab, column" of all tables, their columns in order. */
  public synchronized String columns() throws SQLException {
    PreparedStatement query = connection.prepareStatement(
        "select t.TBL_NAME, c.COLUMN_NAME from TBLS t join DBS d on d.DB_ID = t.DB_ID "
            + "join SDS s on s.SD_ID = t.SD_ID join COLUMNS_V2 c on c.CD_ID = s.CD_ID "
            + "where d.NAME = 'default' order by t.TBL_NAME, c.INTEGER_IDX");
    StringBuilder lines = new StringBuilder();
    ResultSet rows = query.executeQuery();
    while (rows.next()) {
      lines.append(rows.getString(1)).append('\t').append(rows.getString(2)).append('\n');
    }
    query.close();
    connection.commit();
    return lines.toString();
  }

  /** Lines "SD_ID, tab, value, tab, folder" of a table's partitions: of one value, or of all where that is null. */
  public synchronized String list(String table, String value) throws SQLException {
    PreparedStatement query = connection.prepareStatement(
        "select p.SD_ID, v.PART_KEY_VAL, s.LOCATION from TBLS t join DBS d on d.DB_ID = t.DB_ID "
            + "join PARTITIONS p on p.TBL_ID = t.TBL_ID join SDS s on s.SD_ID = p.SD_ID "
            + "join PARTITION_KEY_VALS v on v.PART_ID = p.PART_ID and v.INTEGER_IDX = 0 "
            + "where d.NAME = 'default' and t.TBL_NAME = ?" + (value == null ? "" : " and p.PART_NAME = ?"));
    query.setString(1, table);
    if (value != null) {
      query.setString(2, value);
    }
    StringBuilder lines = new StringBuilder();
    ResultSet rows = query.executeQuery();
    while (rows.next()) {
      lines.append(rows.getLong(1)).append('\t').append(rows.getString(2)).append('\t').append(rows.getString(3));
      lines.append('\n');
    }
    query.close();
    connection.commit();
    return lines.toString();
  }

  /** Point partitions at other folders: lines "SD_ID, tab, folder". */
  public synchronized void movePartitions(String lines) throws SQLException {
    try {
      move(lines);
      connection.commit();
    } catch (SQLException error) {
      connection.rollback();
      throw error;
    }
  }

  private void move(String lines) throws SQLException {
    PreparedStatement update = connection.prepareStatement("update SDS set LOCATION = ? where SD_ID = ?");
    String[] moved = lines.split("\n");
    for (int i = 0; i < moved.length; i++) {
      String[] fields = moved[i].split("\t");
      update.setString(1, new Path(fields[1]).toString());
      update.setLong(2, Long.parseLong(fields[0]));
      update.addBatch();
    }
    int[] counts = update.executeBatch();
    update.close();
    for (int i = 0; i < counts.length; i++) {
      if (counts[i] != 1) {
        throw new SQLException("a partition is gone");
      }
    }
  }

  /** Add partitions: lines "value, tab, folder". */
  public synchronized void addPartitions(String table, String column, String lines) throws SQLException {
    String[] added = lines.split("\n");
    try {
      long partition = reserve("MPartition", added.length);
      long storage = reserve("MStorageDescriptor", added.length);
      long serializer = reserve("MSerDeInfo", added.length);
      insert(table, column, added, partition, storage, serializer);
      connection.commit();
    } catch (SQLException error) {
      connection.rollback();
      throw error;
    }
  }

  private void insert(String table, String column, String[] added, long partition, long storage, long serializer)
      throws SQLException {
    PreparedStatement query = connection.prepareStatement(
        "select t.TBL_ID, s.CD_ID, s.INPUT_FORMAT, s.OUTPUT_FORMAT, f.SLIB from TBLS t "
            + "join DBS d on d.DB_ID = t.DB_ID join SDS s on s.SD_ID = t.SD_ID "
            + "join SERDES f on f.SERDE_ID = s.SERDE_ID where d.NAME = 'default' and t.TBL_NAME = ?");
    query.setString(1, table);
    ResultSet row = query.executeQuery();
    if (!row.next()) {
      throw new SQLException("no table " + table);
    }
    long tableId = row.getLong(1);
    long columns = row.getLong(2);
    String input = row.getString(3);
    String output = row.getString(4);
    String library = row.getString(5);
    query.close();
    int now = (int) (System.currentTimeMillis() / 1000);
    PreparedStatement serdes = prepare("SERDES (SERDE_ID, NAME, SLIB) values (?, null, ?)");
    PreparedStatement formats = prepare(
        "SERDE_PARAMS (SERDE_ID, PARAM_KEY, PARAM_VALUE) values (?, 'serialization.format', '1')");
    PreparedStatement folders = prepare(
        "SDS (SD_ID, CD_ID, INPUT_FORMAT, IS_COMPRESSED, IS_STOREDASSUBDIRECTORIES, LOCATION, NUM_BUCKETS, "
            + "OUTPUT_FORMAT, SERDE_ID) values (?, ?, ?, 'N', 'N', ?, -1, ?, ?)");
    PreparedStatement partitions = prepare(
        "PARTITIONS (PART_ID, CREATE_TIME, LAST_ACCESS_TIME, PART_NAME, SD_ID, TBL_ID) values (?, ?, 0, ?, ?, ?)");
    PreparedStatement values = prepare("PARTITION_KEY_VALS (PART_ID, PART_KEY_VAL, INTEGER_IDX) values (?, ?, 0)");
    PreparedStatement times = prepare(
        "PARTITION_PARAMS (PART_ID, PARAM_KEY, PARAM_VALUE) values (?, 'transient_lastDdlTime', ?)");
    for (int i = 0; i < added.length; i++) {
      String[] fields = added[i].split("\t");
      serdes.setLong(1, serializer + i);
      serdes.setString(2, library);
      serdes.addBatch();
      formats.setLong(1, serializer + i);
      formats.addBatch();
      folders.setLong(1, storage + i);
      folders.setLong(2, columns);
      folders.setString(3, input);
      folders.setString(4, new Path(fields[1]).toString());
      folders.setString(5, output);
      folders.setLong(6, serializer + i);
      folders.addBatch();
      partitions.setLong(1, partition + i);
      partitions.setInt(2, now);
      partitions.setString(3, column + "=" + fields[0]);
      partitions.setLong(4, storage + i);
      partitions.setLong(5, tableId);
      partitions.addBatch();
      values.setLong(1, partition + i);
      values.setString(2, fields[0]);
      values.addBatch();
      times.setLong(1, partition + i);
      times.setString(2, String.valueOf(now));
      times.addBatch();
    }
    PreparedStatement[] all = {serdes, formats, folders, partitions, values, times};
    for (int i = 0; i < all.length; i++) {
      all[i].executeBatch();
      all[i].close();
    }
  }

  private PreparedStatement prepare(String target) throws SQLException {
    return connection.prepareStatement("insert into " + target);
  }

  /** The first of so many ids that nobody else takes: Hive's own client takes them from the same table. */
  private long reserve(String kind, int count) throws SQLException {
    String name = "org.apache.hadoop.hive.metastore.model." + kind;
    PreparedStatement update = connection.prepareStatement(
        "update SEQUENCE_TABLE set NEXT_VAL = NEXT_VAL + ? where SEQUENCE_NAME = ?");
    update.setLong(1, count);
    update.setString(2, name);
    int changed = update.executeUpdate();
    update.close();
    if (changed == 0) {
      PreparedStatement first = connection.prepareStatement("insert into SEQUENCE_TABLE values (?, ?)");
      first.setString(1, name);
      first.setLong(2, 1 + count);
      first.executeUpdate();
      first.close();
    }
    PreparedStatement query = connection.prepareStatement(
        "select NEXT_VAL from SEQUENCE_TABLE where SEQUENCE_NAME = ?");
    query.setString(1, name);
    ResultSet row = query.executeQuery();
    row.next();
    long next = row.getLong(1);
    query.close();
    connection.commit();
    return next - count;
  }
}
