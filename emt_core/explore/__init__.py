"""What people look at: tables, figures, reports and notes. It reads artifacts, writes none."""
